"""Starts, watches, limits and ends the payload, the user's program."""
