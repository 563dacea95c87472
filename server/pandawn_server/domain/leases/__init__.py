"""Leases, attempts, pilots and nodes: how attempts end, who is to blame, and the effect on jobs and nodes."""
