"""Patterns of host names: regular expressions that are matched in a bounded time, whatever they are.

Python's `re` takes years for `(a+)+b` and a name that an attacker chose. RE2 takes time in the order of the
name's length; what it cannot match so (look-around, references) it refuses when the pattern is set.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import re2

MAX_PATTERN_CHARACTERS = 1000
"""Longest pattern."""

MAX_NAME_CHARACTERS = 253
"""Longest host name (RFC 1035, without the last dot)."""

MAX_MEMORY_BYTES = 1024 * 1024
"""What RE2 may need for a pattern and its matching; a list of a thousand names needs a tenth of it."""


class _Compiled(Protocol):
    def fullmatch(self, text: str) -> object | None: ...


class HostPattern:
    """A pattern, ready to be matched against whole names."""

    def __init__(self, compiled: _Compiled) -> None:
        self._compiled = compiled

    def matches(self, name: str) -> bool:
        """Whether the pattern describes the whole name in whatever case; False for what is no host name."""
        # Beyond ASCII there are letters whose lower case is an ASCII one.
        if len(name) > MAX_NAME_CHARACTERS or not name.isascii():
            return False
        return self._compiled.fullmatch(name) is not None


@lru_cache(1024)
def compile_host_pattern(pattern: str) -> HostPattern:
    """Makes a pattern of its text. Raises `ValueError` with what is wrong with it."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"has {len(pattern)} characters; {MAX_PATTERN_CHARACTERS:,} are allowed")
    try:
        return HostPattern(re2.compile(pattern, _options()))
    except re2.error as error:
        said = error.args[0] if error.args else "no reason"
        raise ValueError(
            f"cannot be used: {said.decode() if isinstance(said, bytes) else said}"
        ) from None


def _options() -> object:
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    return options
