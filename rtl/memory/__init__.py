"""The port to main memory."""
