"""Queues as files: what people write in YAML and keep in git, read, checked, compared and written.

Nothing here talks to a server; `pandawn_tools.cli.queues` does.
"""
