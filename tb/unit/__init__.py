"""Unit tests of single components, in the Python simulator."""
