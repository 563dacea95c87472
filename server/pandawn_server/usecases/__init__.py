"""What the system does: one verb per module. Each function takes lists and owns its one transaction."""
