"""Reads the text of a host pattern into a tree. What it does not know is refused, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_lowercase, digits

MAX_DEPTH = 50
"""Groups within groups."""

MAX_COUNT = 1000
"""Largest number in `{m,n}`."""

_WORD = frozenset(ascii_lowercase + digits + "_")
_CLASSES: Mapping[str, tuple[frozenset[str], bool]] = {
    "d": (frozenset(digits), True),
    "D": (frozenset(digits), False),
    "w": (_WORD, True),
    "W": (_WORD, False),
    "s": (frozenset(" \t\n\r\f\v"), True),
    "S": (frozenset(" \t\n\r\f\v"), False),
}


@dataclass(frozen=True, slots=True)
class OneOf:
    """A character: one of some, in lower case, or none of them."""

    characters: frozenset[str]
    is_positive: bool = True

    def fits(self, character: str) -> bool:
        """Whether it is such a character."""
        return (character in self.characters) is self.is_positive


@dataclass(frozen=True, slots=True)
class Anchor:
    """The start or the end of the name."""

    is_start: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One after the other."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of some."""

    choices: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Some times; without an end if `most` is None."""

    part: Node
    least: int
    most: int | None


Node = OneOf | Anchor | Run | Alternatives | Repeat


class Parser:
    """Reads one pattern. Every method raises `ValueError` with what is wrong and where."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        """The whole pattern."""
        node = self._alternatives()
        if self._at < len(self._text):
            raise self._error("has a ) without its (")
        return node

    def _error(self, problem: str) -> ValueError:
        return ValueError(f"{problem}, at character {self._at + 1}")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        character = self._peek()
        self._at += 1
        return character

    def _skip(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _alternatives(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"has more than {MAX_DEPTH} groups within groups")
        choices = [self._run()]
        while self._skip("|"):
            choices.append(self._run())
        self._depth -= 1
        return choices[0] if len(choices) == 1 else Alternatives(tuple(choices))

    def _run(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in {"", "|", ")"}:
            parts.append(self._repeated(self._atom()))
        return Run(tuple(parts))

    def _atom(self) -> Node:
        character = self._next()
        match character:
            case "(":
                if self._peek() == "?" and not self._skip("?:"):
                    raise self._error("has a (?...) other than (?:...)")
                node = self._alternatives()
                if not self._skip(")"):
                    raise self._error("has a ( without its )")
                return node
            case "[":
                return self._set()
            case ".":
                return OneOf(frozenset("\n"), is_positive=False)
            case "^" | "$":
                return Anchor(character == "^")
            case "*" | "+" | "?" | "{":
                raise self._error(f"has a {character} with nothing before it to repeat")
            case "\\":
                return self._escape()
            case _:
                return OneOf(frozenset(character.lower()))

    def _escape(self) -> OneOf:
        character = self._next()
        if character in _CLASSES:
            return OneOf(*_CLASSES[character])
        if not character or character.isalnum():
            raise self._error(f"has \\{character}, which is not for host names")
        return OneOf(frozenset(character))

    def _set(self) -> OneOf:
        is_positive = not self._skip("^")
        found: set[str] = set()
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            low = self._member()
            behind = self._text[self._at : self._at + 2]
            if len(low) == 1 and behind[:1] == "-" and behind[1:] not in {"]", ""}:
                self._at += 1
                found |= self._range(min(low), self._member())
            else:
                found |= low
        self._at += 1
        # In lower case: so are the names.
        return OneOf(frozenset(c for each in found for c in (each, each.lower())), is_positive)

    def _range(self, low: str, high: frozenset[str]) -> set[str]:
        if len(high) != 1 or min(high) < low:
            raise self._error("has a range in [...] that is none")
        if ord(min(high)) > 0x7F:
            raise self._error("has a range beyond ASCII; host names are ASCII")
        return {chr(code) for code in range(ord(low), ord(min(high)) + 1)}

    def _member(self) -> frozenset[str]:
        character = self._next()
        if not character:
            raise self._error("has a [ without its ]")
        if character != "\\":
            return frozenset(character)
        escaped = self._escape()
        if not escaped.is_positive:
            raise self._error("has the opposite of a class in [...]")
        return escaped.characters

    def _repeated(self, part: Node) -> Node:
        while True:
            match self._peek():
                case "*":
                    least, most = 0, None
                case "+":
                    least, most = 1, None
                case "?":
                    least, most = 0, 1
                case "{":
                    least, most = self._counts()
                case _:
                    return part
            if isinstance(part, Anchor):
                raise self._error("repeats ^ or $")
            self._at += 1
            # Whether as many or as few as possible: the whole name is matched either way.
            self._skip("?")
            if self._peek() in {"*", "+", "?", "{"}:
                raise self._error("repeats a repetition; use a group")
            part = Repeat(part, least, most)

    def _counts(self) -> tuple[int, int | None]:
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : max(end, 0)].partition(",")
        least = self._count(low or "0")
        most = least if not comma else None if not high else self._count(high)
        if end < 0 or not (low or high) or (most is not None and most < least):
            raise self._error("has a {m,n} that is none")
        self._at = end
        return least, most

    def _count(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) > 4 or int(text) > MAX_COUNT:
            raise self._error(f"has a number of repetitions that is none, or above {MAX_COUNT:,}")
        return int(text)
