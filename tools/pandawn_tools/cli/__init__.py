"""The `pandawn` command line."""
