"""Bench library: drivers, monitors, checkers."""
