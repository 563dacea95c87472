"""Sizes as people read them."""

from __future__ import annotations


def said(size_bytes: int) -> str:
    """A size with three digits: `212 KiB`, `1.4 GiB`; the tools write the same."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1000:
            digits = 0 if unit == "B" or abs(value) >= 100 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    return f"{value:.1f} EiB"


def said_against(size_bytes: int, limit_bytes: int) -> tuple[str, str]:
    """Both sizes; to the byte where three digits do not tell them apart."""
    size, limit = said(size_bytes), said(limit_bytes)
    if size == limit and size_bytes != limit_bytes:
        return f"{size_bytes:,} bytes", f"{limit_bytes:,} bytes"
    return size, limit
