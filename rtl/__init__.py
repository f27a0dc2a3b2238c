"""The hardware: Amaranth components, one concept a file."""
