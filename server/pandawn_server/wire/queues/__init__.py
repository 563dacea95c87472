"""The QueueConfig service."""
