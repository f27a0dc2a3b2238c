"""DRAM: the recorded command trace and the checker that judges it by its own reading of the datasheets."""
