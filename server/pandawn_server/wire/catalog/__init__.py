"""The FileCatalog service."""
