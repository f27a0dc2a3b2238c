"""Tests of the host software."""
