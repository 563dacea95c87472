"""What is wrong with something that was read, and where."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class BadValueError(ValueError):
    """A value is none for its parameter; the text says why, and what to write."""


# A mistyped name of this likeness or better is worth a question.
_ALIKE = 0.6


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a file: `line` counts from 1; 0 where the file as a whole is meant."""

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
    """Returns `; did you mean NAME?` where a known name is like the given one, else nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    like = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=_ALIKE)
    return f"; did you mean {by_folded[like[0]]}?" if like else ""


def shown(text: str, most: int = 60) -> str:
    """Returns the text in quotes and on one line, cut where it is long."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    return repr(cut)
