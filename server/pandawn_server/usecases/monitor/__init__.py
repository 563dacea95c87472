"""Reads for the monitor: counts, lists and the stream of events."""
