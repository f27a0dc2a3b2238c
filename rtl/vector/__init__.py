"""The vector path: what happens to finished sums between the output buffers and the global buffer."""
