"""Sizes in bytes as readable text."""

from __future__ import annotations


def size_text(size_bytes: int) -> str:
    """A size with three digits: `212 KiB`, `1.4 GiB`; the command line tools use the same form."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1000:
            digits = 0 if unit == "B" or abs(value) >= 100 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1024
    return f"{value:.1f} EiB"


def size_texts(size_bytes: int, limit_bytes: int) -> tuple[str, str]:
    """Both sizes as text; exact bytes where three digits would look the same."""
    size, limit = size_text(size_bytes), size_text(limit_bytes)
    if size == limit and size_bytes != limit_bytes:
        return f"{size_bytes:,} bytes", f"{limit_bytes:,} bytes"
    return size, limit
