"""Patterns of host names: regular expressions that match any name in bounded time.

Python's `re` takes years for `(a+)+b` and a name that an attacker chose. RE2 takes time linear in the
name's length; it refuses patterns for which it cannot (look-around, references) when they are set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import re2

MAX_PATTERN_CHARACTERS = 1000
"""Maximum length of a pattern."""

MAX_NAME_CHARACTERS = 253
"""Longest host name (RFC 1035, without the last dot)."""

MAX_MEMORY_BYTES = 1024 * 1024
"""Memory limit of RE2 for a pattern and its matching; a list of a thousand names needs a tenth of it."""


class _Compiled(Protocol):
    def fullmatch(self, text: str) -> object | None: ...


class HostPattern:
    """A compiled pattern that matches whole names."""

    def __init__(self, compiled: _Compiled) -> None:
        self._compiled = compiled

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the whole name, ignoring case; False if it is not a host name."""
        # Some letters outside ASCII have a lower case in ASCII.
        if len(name) > MAX_NAME_CHARACTERS or not name.isascii():
            return False
        return self._compiled.fullmatch(name) is not None


@lru_cache(1024)
def compile_host_pattern(pattern: str) -> HostPattern:
    """Compiles a pattern. Raises `ValueError` with the reason if it is too long or RE2 refuses it."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"has {len(pattern)} characters; {MAX_PATTERN_CHARACTERS:,} are allowed")
    try:
        return HostPattern(re2.compile(pattern, _options()))
    except re2.error as error:
        reason = error.args[0] if error.args else "no reason"
        raise ValueError(
            f"cannot be used: {reason.decode() if isinstance(reason, bytes) else reason}"
        ) from None


def _options() -> object:
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    return options
