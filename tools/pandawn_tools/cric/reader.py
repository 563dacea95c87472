"""Reads one queue of CRIC field by field: converts its values, and records what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pandawn_tools.cric.document import twice
from pandawn_tools.cric.fields import ANY, EXPECTED, IGNORED, NUMBER
from pandawn_tools.cric.findings import Finding, Outcome
from pandawn_tools.queuefiles.legacy import Converted, Json, convert, kind_of
from pandawn_tools.queuefiles.oldnames import OldName
from pandawn_tools.queuefiles.parameters import (
    Parameter,
    Value,
    check,
    old_names,
    parameters,
)
from pandawn_tools.queuefiles.problems import BadValueError, shown, suggestion
from pandawn_tools.queuefiles.values import plain

# The contract's rule for names of queues.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_PROVENANCE = "_data"
# Without these a queue could be mistaken for another, or take work that it should not.
VITAL = frozenset({"site", "status"})
_ACTIVE = "active"


@dataclass(slots=True)
class CricQueue:
    """A queue of CRIC: `says` has parameters by name, None for one to unset.

    Parameters that CRIC does not list, or whose fields cannot be read, are missing in it.
    """

    name: str
    says: dict[str, Value | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """Whether all vital fields could be read."""
        return all(finding.outcome is not Outcome.FATAL for finding in self.findings)

    def note(self, name: str, outcome: Outcome, parameter: str = "", note: str = "") -> None:
        """Records the outcome for a field."""
        self.findings.append(Finding(self.name, name, outcome, parameter, note))


def read_queue(name: str, value: Json) -> CricQueue:
    """Reads the value of a name in the list, which may be of any kind."""
    queue = CricQueue(name)
    if not _NAME.fullmatch(name):
        queue.note("name", Outcome.FATAL, note="a name has 1 to 64 of A-Z a-z 0-9 _ . -")
    if not isinstance(value, Mapping):
        queue.note("", Outcome.FATAL, note=f"{kind_of(value)} instead of an object")
        return queue
    for repeated in sorted(twice(value)):
        queue.note(repeated, Outcome.WRONG, note="it occurs more than once; the last one counts")
    fields = _with_provenance(queue, value)
    _read_name(queue, fields)
    for parameter in parameters().values():
        _read_parameter(queue, parameter, fields)
    _read_state(queue, fields)
    _read_rest(queue, fields)
    return queue


@dataclass(frozen=True, slots=True)
class _Field:
    """A value, and the level of CRIC from which it comes."""

    value: Json
    scope: str = ""


def _with_provenance(queue: CricQueue, value: Mapping[str, Json]) -> dict[str, _Field]:
    """Combines fields with their siblings `<field>_data`, which name the source of the value."""
    fields: dict[str, _Field] = {}
    for name, item in value.items():
        base = name.removesuffix(_PROVENANCE)
        is_sibling = base != name and (base in value or _is_known(base))
        if not is_sibling:
            # A sibling that comes before its field must not be lost.
            before = fields.get(name)
            fields[name] = _Field(item, before.scope if before is not None else "")
            continue
        if not isinstance(item, Mapping):
            queue.note(name, Outcome.WRONG, note=f"{kind_of(item)} instead of an object")
            continue
        said = item.get("scope")
        scope = said if isinstance(said, str) else ""
        if not scope:
            queue.note(name, Outcome.WRONG, note="it has no scope of the value")
        if base not in value:
            if base in item:
                fields[base] = _Field(item[base], scope)
            continue
        if base in item and item[base] != value[base]:
            note = f"its value differs from that of {base}, which counts"
            queue.note(name, Outcome.WRONG, note=note)
        fields[base] = _Field(value[base], scope)
    return fields


def _is_known(name: str) -> bool:
    return name in IGNORED or name in old_names() or name in EXPECTED


def _read_name(queue: CricQueue, fields: Mapping[str, _Field]) -> None:
    said = fields.get("name")
    if said is None:
        queue.note("name", Outcome.WRONG, note="missing; the name under which it is listed counts")
    elif said.value != queue.name:
        shown_name = shown(said.value) if isinstance(said.value, str) else kind_of(said.value)
        queue.note(
            "name",
            Outcome.FATAL,
            note=f"it is listed as {queue.name}, but its name is {shown_name}",
        )
    else:
        queue.note("name", Outcome.MAPPED, "name")


def _read_parameter(queue: CricQueue, parameter: Parameter, fields: Mapping[str, _Field]) -> None:
    """Uses the value of the first old name that has one."""
    said_unset = False
    found = False
    for old in parameter.old_names:
        try:
            present = list(_lookup(old.name, fields))
            values = [(_converted(parameter, old, item), item.scope) for item in present]
        except ValueError as error:
            if not found:
                # Another name may have a value, but this one takes precedence.
                _complain(queue, parameter, old, str(error))
                return
            queue.note(old.name, Outcome.WRONG, parameter.name, f"{error}; it is not needed")
            continue
        for converted, scope in values:
            if converted.value is None:
                said_unset = True
                queue.note(old.name, Outcome.UNSET, parameter.name, converted.note)
            elif found:
                note = f"{parameter.name} has a value already"
                queue.note(old.name, Outcome.IGNORED, parameter.name, note)
            else:
                found = True
                queue.says[parameter.name] = converted.value
                note = _mapped_note(parameter, converted, scope)
                queue.note(old.name, Outcome.MAPPED, parameter.name, note)
    if said_unset and not found:
        if parameter.name in VITAL:
            _complain(queue, parameter, parameter.old_names[0], "no value")
            return
        queue.says[parameter.name] = None
    for old in parameter.old_names:
        top = old.name.partition(".")[0]
        if top in EXPECTED and top not in fields and not found:
            _complain(queue, parameter, old, "missing")


def _converted(parameter: Parameter, old: OldName, item: _Field) -> Converted:
    converted = convert(parameter, old, item.value)
    if converted.value is not None:
        check(parameter, converted.value)
    return converted


def _complain(queue: CricQueue, parameter: Parameter, old: OldName, note: str) -> None:
    outcome = Outcome.FATAL if parameter.name in VITAL else Outcome.WRONG
    queue.says.pop(parameter.name, None)
    queue.note(old.name, outcome, parameter.name, note)


def _mapped_note(parameter: Parameter, converted: Converted, scope: str) -> str:
    said = converted.note
    if converted.value is not None and "->" not in said:
        shown_value = plain(parameter, converted.value)
        said = f"{shown_value} ({said})" if said else shown_value
    return f"{said} (from {scope})" if scope else said


def _lookup(name: str, fields: Mapping[str, _Field]) -> Iterator[_Field]:
    """Yields the values of `a` or `a.b`; if `a` is a list of objects, the list of their `b`.

    Raises:
        BadValueError: `a` exists but cannot have a `b`.
    """
    top, _, rest = name.partition(".")
    if top not in fields:
        return
    outer = fields[top]
    if not rest or outer.value is None:
        yield outer
    elif isinstance(outer.value, Mapping):
        if rest in outer.value:
            yield _Field(outer.value[rest], outer.scope)
    elif isinstance(outer.value, Sequence) and not isinstance(outer.value, str):
        inner: list[Json] = []
        for position, item in enumerate(outer.value, start=1):
            if not isinstance(item, Mapping):
                raise BadValueError(f"element {position} is {kind_of(item)} instead of an object")
            if item.get(rest) is not None:
                inner.append(item[rest])
        yield _Field(inner, outer.scope)
    else:
        raise BadValueError(f"{kind_of(outer.value)} instead of an object")


def _read_state(queue: CricQueue, fields: Mapping[str, _Field]) -> None:
    """Sets a queue that is not active in CRIC to offline, whatever its status."""
    state = fields.get("state")
    offline = parameters()["status"].words["offline"]
    if state is None:
        queue.note("state", Outcome.WRONG, "status", "missing; the status alone counts")
    elif not isinstance(state.value, str) or not state.value.strip():
        queue.note("state", Outcome.FATAL, "status", f"{kind_of(state.value)} that says no state")
    elif state.value.strip().lower() == _ACTIVE:
        queue.note("state", Outcome.MAPPED, "status", "ACTIVE: the status counts")
    else:
        queue.says["status"] = offline
        queue.note("state", Outcome.MAPPED, "status", f"{shown(state.value)} -> offline")


def _read_rest(queue: CricQueue, fields: Mapping[str, _Field]) -> None:
    meant = {old.partition(".")[0] for old in old_names()} | {"name", "state"}
    for name, item in fields.items():
        if name in meant:
            continue
        if name not in IGNORED:
            hint = suggestion(name, [*meant, *IGNORED])
            queue.note(name, Outcome.UNKNOWN, note=f"{kind_of(item.value)}{hint}")
            continue
        kind, why = IGNORED[name]
        if kind in {ANY, kind_of(item.value)} or item.value is None or _is_number(kind, item.value):
            queue.note(name, Outcome.IGNORED, note=why)
        else:
            note = f"{kind_of(item.value)} instead of {kind}; it is not needed"
            queue.note(name, Outcome.WRONG, note=note)


def _is_number(kind: str, value: Json) -> bool:
    """Whether a text is the number that is expected: old rows are all text."""
    return kind == NUMBER and isinstance(value, str) and not value.strip(" 0123456789.")
