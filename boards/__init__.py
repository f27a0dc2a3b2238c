"""One file a board: pins, clocks, memory; how to build and program."""
