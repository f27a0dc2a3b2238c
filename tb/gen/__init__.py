"""Tests of the generator: configurations, Verilog, header, simulation."""
