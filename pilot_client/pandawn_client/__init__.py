"""The client library: how a program talks to a Pandawn server."""
