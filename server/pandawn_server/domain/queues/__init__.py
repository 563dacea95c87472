"""Queues: their parameters, and how these are combined from layers."""
