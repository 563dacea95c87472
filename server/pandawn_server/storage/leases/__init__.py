"""SQL about pilots, leases, attempts and nodes."""
