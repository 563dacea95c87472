"""Queues as CRIC (and AGIS before it) describes them, read with patience and put into our terms.

The shape is that of CRIC's `pandaqueue` list in JSON: one object whose values are queues. Nothing
here talks to a Pandawn server; `pandawn_tools.cli.queues` does.
"""
