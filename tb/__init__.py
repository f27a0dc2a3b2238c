"""Every test: unit tests, formal specifications, system benches and the bench library."""
