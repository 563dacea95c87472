r"""Patterns of host names: regular expressions that can be matched in a bounded time.

Python's `re` takes years for `(a+)+b` and a name that an attacker chose. Here a pattern becomes a small
program that follows all ways at once (Thompson 1968; R. Cox, "Regular Expression Matching: the Virtual
Machine Approach", 2009): time is at most the length of the name times that of the program.

The language is what configurations use: literals, `.`, `[...]`, `\d \w \s` and their opposites, `( )`,
`(?: )`, `|`, `* + ?`, `{m,n}`, `^`, `$`. Case does not matter. Look-around and references are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from pandawn_server.domain.host_pattern_parser import (
    Alternatives,
    Anchor,
    Node,
    OneOf,
    Parser,
    Repeat,
    Run,
)

MAX_PATTERN_CHARACTERS = 1000
"""Longest pattern."""

MAX_STEPS = 5000
"""Longest program: what `{m,n}` repeats counts as often as it is repeated."""

MAX_NAME_CHARACTERS = 253
"""Longest host name (RFC 1035, without the last dot)."""


class _Op(Enum):
    TAKE = auto()
    SPLIT = auto()
    AT_START = auto()
    AT_END = auto()
    MATCH = auto()


@dataclass(slots=True)
class _Step:
    """One step: TAKE takes a character that `fits` and goes to the next step, SPLIT goes two ways."""

    op: _Op
    fits: Callable[[str], bool] | None = None
    ways: tuple[int, ...] = ()


class HostPattern:
    """A pattern, ready to be matched against whole names."""

    def __init__(self, program: Sequence[_Step]) -> None:
        self._program = program

    def matches(self, name: str) -> bool:
        """Whether the pattern describes the whole name; a longer text than a host name is none."""
        if len(name) > MAX_NAME_CHARACTERS:
            return False
        name = name.lower()
        here = self._reach({0}, at_start=True, at_end=not name)
        for position, character in enumerate(name, 1):
            taken = {
                step + 1 for step in here if (fits := self._program[step].fits) and fits(character)
            }
            here = self._reach(taken, at_start=False, at_end=position == len(name))
            if not here:
                return False
        return any(self._program[step].op is _Op.MATCH for step in here)

    def _reach(self, steps: set[int], *, at_start: bool, at_end: bool) -> set[int]:
        """Where one gets from `steps` without taking a character."""
        found: set[int] = set()
        open_steps = list(steps)
        while open_steps:
            at = open_steps.pop()
            if at in found:
                continue
            found.add(at)
            step = self._program[at]
            match step.op:
                case _Op.SPLIT:
                    open_steps += step.ways
                case _Op.AT_START if at_start:
                    open_steps.append(at + 1)
                case _Op.AT_END if at_end:
                    open_steps.append(at + 1)
                case _:
                    pass
        return found


@lru_cache(1024)
def compile_host_pattern(pattern: str) -> HostPattern:
    """Makes a pattern of its text. Raises `ValueError` with what is wrong with it."""
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"has {len(pattern)} characters; {MAX_PATTERN_CHARACTERS:,} are allowed")
    compiler = _Compiler()
    compiler.emit(Parser(pattern).parse())
    compiler.program.append(_Step(_Op.MATCH))
    return HostPattern(compiler.program)


class _Compiler:
    """Writes the program of a tree."""

    def __init__(self) -> None:
        self.program: list[_Step] = []
        self._emitted = 0

    def emit(self, node: Node) -> None:
        """Appends the steps of a part."""
        # Parts are counted besides steps: nothing, a thousand times a thousand times, has no steps.
        self._emitted += 1
        if self._emitted > MAX_STEPS or len(self.program) > MAX_STEPS:
            raise ValueError(f"repeats too much: it would take more than {MAX_STEPS:,} steps")
        match node:
            case OneOf():
                self.program.append(_Step(_Op.TAKE, node.fits))
            case Anchor():
                self.program.append(_Step(_Op.AT_START if node.is_start else _Op.AT_END))
            case Run():
                for part in node.parts:
                    self.emit(part)
            case Alternatives():
                self._emit_alternatives(node)
            case Repeat():
                self._emit_repeat(node)

    def _emit_alternatives(self, node: Alternatives) -> None:
        ends: list[_Step] = []
        for choice in node.choices[:-1]:
            fork = self._append_split()
            begin = len(self.program)
            self.emit(choice)
            ends.append(self._append_split())
            fork.ways = (begin, len(self.program))
        self.emit(node.choices[-1])
        for end in ends:
            end.ways = (len(self.program),)

    def _emit_repeat(self, node: Repeat) -> None:
        for _ in range(node.least):
            self.emit(node.part)
        if node.most is None:
            at = len(self.program)
            fork = self._append_split()
            self.emit(node.part)
            self._append_split().ways = (at,)
            fork.ways = (at + 1, len(self.program))
            return
        forks: list[_Step] = []
        for _ in range(node.most - node.least):
            forks.append(self._append_split())
            forks[-1].ways = (len(self.program),)
            self.emit(node.part)
        for fork in forks:
            fork.ways = (*fork.ways, len(self.program))

    def _append_split(self) -> _Step:
        step = _Step(_Op.SPLIT)
        self.program.append(step)
        return step
