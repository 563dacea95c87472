"""Use cases of the configuration: read and change it, overrides, and its history."""
