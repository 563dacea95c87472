"""The Broker service."""
