"""Leases, attempts and pilots: how attempts end, whose fault it was, and what becomes of jobs and nodes."""
