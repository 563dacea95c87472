"""SQL about events and counts."""
