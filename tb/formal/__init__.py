"""Formal proofs of the control parts."""
