"""The Dispatcher service."""
