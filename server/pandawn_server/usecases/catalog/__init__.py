"""Which node holds which files: caches and pins write it, everybody reads it."""
