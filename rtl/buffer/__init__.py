"""The buffers next to the array: local (operands) and output (accumulators)."""
