"""Which node holds which files: written by caches and pins, read by everybody."""
