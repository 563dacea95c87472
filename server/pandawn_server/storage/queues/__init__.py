"""SQL about the configuration of queues and its history."""
