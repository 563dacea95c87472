"""Alembic's scripts, which upgrade a database of any earlier version to this version."""
