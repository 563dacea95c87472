"""Tests of the tools: what the command line and the demo do without a server."""
