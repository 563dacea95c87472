"""Runs one job: directory, inputs, sandbox, outputs, log and report."""
