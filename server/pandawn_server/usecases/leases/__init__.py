"""Pilots and their leases: registration, heartbeats, reports, ends, and the health of nodes."""
