"""Engines behind one call: the RTL, the functional and cycle models, and the golden numpy model; and the report they share."""
