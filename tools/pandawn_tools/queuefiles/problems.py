"""Problems of files, with their places."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class BadValueError(ValueError):
    """A value is invalid for its parameter; the text says why, and what to write."""


# Minimum similarity of a name to suggest it.
_ALIKE = 0.6


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem of a file: `line` counts from 1; 0 means the whole file."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    @property
    def place(self) -> str:
        """File and line, as editors and compilers write it."""
        return f"{self.file}:{self.line}" if self.line else self.file


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean NAME?` if a known name is similar, else an empty text."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    like = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=_ALIKE)
    return f"; did you mean {by_folded[like[0]]}?" if like else ""


def shown(text: str, most: int = 60) -> str:
    """Returns the text in quotes on one line, truncated to `most` characters."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return repr(cut)
