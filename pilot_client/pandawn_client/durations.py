"""Converts between seconds and the contract's Duration."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration


def duration(seconds: float) -> Duration:
    """A Duration of `seconds`."""
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


def seconds(message: Duration) -> float:
    """Length of a Duration in seconds."""
    return message.ToTimedelta().total_seconds()
