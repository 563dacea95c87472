"""Traces and metrics: what is measured (`names`), the interface for code (`api`), the exporter (`otlp`).

Without a collector only `names` and `api` are imported, and both do nothing.
"""
