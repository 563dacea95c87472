"""Reads queues as CRIC (and AGIS before it) describes them, tolerates errors, and converts them.

The format is CRIC's `pandaqueue` list in JSON: one object whose values are queues. Nothing here
calls a Pandawn server; `pandawn_tools.cli.queues` does.
"""
