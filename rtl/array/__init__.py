"""The systolic array: processing elements, sub-cores and the unit that joins them."""
