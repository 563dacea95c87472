"""Brokerage: the choice of a queue for a task."""
