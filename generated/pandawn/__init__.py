"""Stubs generated from proto/; never edited. `make stubs` writes them."""
