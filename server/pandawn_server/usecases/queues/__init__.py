"""The configuration of queues: read, changed, overridden, its history."""
