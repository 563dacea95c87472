"""The Monitor service."""
