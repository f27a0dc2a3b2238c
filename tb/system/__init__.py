"""System benches: generated hardware under Verilator and cocotb against the golden and the cycle model."""
