"""What the system does: one verb a module. Each function takes lists and owns its one transaction."""
