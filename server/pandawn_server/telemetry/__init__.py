"""Traces and metrics: what is measured (`names`), how code says so (`api`), where it goes (`otlp`).

With no collector configured nothing but `names` and `api` is imported, and both do nothing.
"""
