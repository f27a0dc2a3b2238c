"""Arithmetic: number formats and their operators."""
