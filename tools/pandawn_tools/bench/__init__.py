"""Measures the server: `pandawn bench` and `make bench`."""
