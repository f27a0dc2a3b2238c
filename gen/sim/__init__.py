"""The RTL simulation: a SystemVerilog bench around the machine, and the cocotb module that conducts it."""
