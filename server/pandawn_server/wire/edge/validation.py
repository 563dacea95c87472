"""Collects everything that is wrong with a request, so that the caller can fix it all at once.

A servicer makes one `Checker`, passes it each field, and calls `done` before it acts:

    check = Checker()
    check.queue("queue", request.queue)
    for i, item in enumerate(request.task.inputs):
        check.lfn(("task.inputs", i, "file.lfn"), item.file.lfn)
    wait = check.duration("wait", request.wait, maximum=timedelta(seconds=60))
    check.done()

A field may be given as the parts of its path. They are joined only for a violation, which matters for a task
with 100,000 files.
"""

from __future__ import annotations

import math
from collections.abc import Sized
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pandawn.common.v1 import common_pb2
from pandawn_server.domain.errors import InvalidRequestError, Violation
from pandawn_server.wire.edge import rules

FieldPath = str | tuple[str | int, ...]
"""`"task.user"`, or `("task.inputs", 17, "file.lfn")` for `task.inputs[17].file.lfn`."""

MAX_NAME_CHARACTERS = 64
"""Maximum length of the name of a queue, user or site."""

MAX_SCOPE_CHARACTERS = MAX_NAME_CHARACTERS + len("user.")
"""Maximum length of a scope: a user's own scope contains the user name."""

MAX_DATASET_CHARACTERS = 200
"""Maximum length of a dataset name: output file names contain it and add to it."""

MAX_PAGE_SIZE = 1000
"""Maximum number of rows in a page."""

DEFAULT_PAGE_SIZE = 100
"""Rows in a page if the request names no number."""

MAX_TEXT_BYTES = 2000
"""Maximum size of free text, as in the contracts."""

# With more than this the request is rejected at once: nobody fixes so many by hand, and checking the rest of a
# 32 MiB request would block all other callers.
_MAX_VIOLATIONS = 1000
_NANOSECONDS_A_MICROSECOND = 1000
_NO_TIME = timedelta(0)


class Checker:
    """The violations of one request, in the order in which its fields were checked."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    @property
    def ok(self) -> bool:
        """Whether there is no violation so far."""
        return not self._violations

    def done(self, reason: str = "INVALID_REQUEST") -> None:
        """Raises `InvalidRequestError` with all violations, if there are any."""
        if self._violations:
            raise InvalidRequestError.of(self._violations, reason)

    def add(self, field: FieldPath, description: str) -> None:
        """Records a violation found elsewhere; `description` continues the sentence after the field's path.

        Raises `InvalidRequestError` if there are too many.
        """
        self._violations.append(Violation(rendered(field), description))
        if len(self._violations) > _MAX_VIOLATIONS:
            self.done()

    def require(self, holds: bool, field: FieldPath, description: str) -> bool:
        """Records a violation unless `holds`, which it returns."""
        if not holds:
            self.add(field, description)
        return holds

    def chosen(self, request: Message, choice: str, words: str) -> None:
        """Requires that exactly one field of a `oneof` is set; `words` names them."""
        self.require(request.WhichOneof(choice) is not None, choice, f"must be set: {words}")

    def name(
        self,
        field: FieldPath,
        value: str,
        *,
        required: bool = True,
        max_characters: int = MAX_NAME_CHARACTERS,
    ) -> str:
        """Checks a name of `A-Z a-z 0-9 _ . -`, safe as a directory and as an argument."""
        if value or required:
            self._judge(field, rules.name_problem(value, max_characters))
        return value

    def queue(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the name of a queue."""
        return self.name(field, value, required=required)

    def site(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the name of a site."""
        return self.name(field, value, required=required)

    def user(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the name of a user."""
        return self.name(field, value, required=required)

    def dataset(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the name of a dataset."""
        return self.name(field, value, required=required, max_characters=MAX_DATASET_CHARACTERS)

    def host(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the host name of a node; returns it in lower case, for comparison."""
        if value or required:
            self._judge(field, rules.host_problem(value))
        return value.lower()

    def text(self, field: FieldPath, value: str, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
        """Checks one line of free text for people; it may be empty."""
        self._judge(field, rules.text_problem(value, max_bytes))
        return value

    def scope(self, field: FieldPath, value: str) -> str:
        """Checks the name space of an LFN; empty if there is none."""
        return self.name(field, value, required=False, max_characters=MAX_SCOPE_CHARACTERS)

    def lfn(self, field: FieldPath, value: str) -> str:
        """Checks a logical file name."""
        self._judge(field, rules.lfn_problem(value))
        return value

    def guid(self, field: FieldPath, value: str, *, required: bool = False) -> str:
        """Checks a globally unique identifier."""
        if value or required:
            self._judge(field, rules.guid_problem(value))
        return value

    def checksum(self, field: FieldPath, value: str, *, required: bool = False) -> str:
        """Checks a checksum with its algorithm."""
        if value or required:
            self._judge(field, rules.checksum_problem(value))
        return value

    def version(self, field: FieldPath, value: str) -> str:
        """Checks a file version; empty means unknown, or any."""
        if value:
            self._judge(field, rules.version_problem(value))
        return value

    def sandbox_id(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the identifier of a sandbox: the SHA-256 of its content."""
        if value or required:
            self._judge(field, rules.sha256_problem(value))
        return value

    def identifier(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks a request id, pilot id or lease token: opaque, printable, at most 64 characters."""
        if value or required:
            self._judge(field, rules.request_id_problem(value))
        return value

    def url(self, field: FieldPath, value: str, *, required: bool = True) -> str:
        """Checks the location of a file or directory."""
        if value or required:
            self._judge(field, rules.url_problem(value))
        return value

    def size(self, field: FieldPath, value: int) -> int:
        """Checks a size in bytes: 0 or more."""
        return self.range(field, value, 0, rules.MAX_INT64, unit="bytes")

    def number(self, field: FieldPath, value: int) -> int:
        """Checks an identifier that the server assigned: 1 or more."""
        return self.range(field, value, 1, rules.MAX_INT64)

    def range(
        self, field: FieldPath, value: int, minimum: int, maximum: int, *, unit: str = ""
    ) -> int:
        """Checks a whole number against inclusive bounds."""
        self._judge(field, rules.range_problem(value, minimum, maximum, unit))
        return value

    def measure(self, field: FieldPath, value: float) -> float:
        """Checks a measured quantity: finite, 0 or more."""
        if not math.isfinite(value) or value < 0:
            self.add(field, f"is {value}; it must be a number of at least 0")
        return value

    def page_size(
        self, value: int, *, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAX_PAGE_SIZE
    ) -> int:
        """Checks the number of rows of a page; returns the default for 0."""
        if value:
            self.range("page_size", value, 1, maximum)
        return value or default

    def count(self, field: FieldPath, values: Sized, minimum: int, maximum: int) -> None:
        """Checks the length of a repeated field; call it before checking the items.

        Raises `InvalidRequestError` at once if it is too long: checking millions of items may be what an
        attacker wants.
        """
        if len(values) < minimum:
            few = "must not be empty" if minimum == 1 else f"must have at least {minimum:,} items"
            self.add(field, few)
        elif len(values) > maximum:
            self.add(field, f"has {len(values):,} items; {maximum:,} are allowed")
            self.done()

    def duration(
        self,
        field: FieldPath,
        value: Duration,
        *,
        minimum: timedelta = _NO_TIME,
        maximum: timedelta,
    ) -> timedelta:
        """Checks a duration against inclusive bounds; fractions of a microsecond are dropped."""
        whole = max(-(10**12), min(value.seconds, 10**12))
        span = timedelta(0, whole, value.nanos // _NANOSECONDS_A_MICROSECOND)
        if not minimum <= span <= maximum:
            self.add(field, f"is {_seconds(span)} s; it must be {_span(minimum, maximum)}")
        return span

    def timestamp(self, field: FieldPath, value: Timestamp) -> None:
        """Checks that a time is in the years 1 to 9999."""
        if not -62135596800 <= value.seconds <= 253402300799 or not 0 <= value.nanos < 10**9:
            self.add(field, "must be between the years 1 and 9999")

    def file_ref(self, field: FieldPath, value: common_pb2.FileRef) -> None:
        """Checks the name of a file: LFN with scope, or GUID, but not both."""
        path = field if isinstance(field, tuple) else (field,)
        name = value.WhichOneof("name")
        if name is None:
            self.add(field, "must have either lfn or guid")
        elif name == "lfn":
            self.lfn((*path, "lfn"), value.lfn)
            self.scope((*path, "scope"), value.scope)
        else:
            self.guid((*path, "guid"), value.guid, required=True)
            self.require(not value.scope, (*path, "scope"), "must not be set beside guid")
        self.version((*path, "version"), value.version)

    def file(self, field: FieldPath, value: common_pb2.File) -> None:
        """Checks a file with LFN and size; scope, GUID, checksum and version if they are set."""
        path = field if isinstance(field, tuple) else (field,)
        self.lfn((*path, "lfn"), value.lfn)
        self.scope((*path, "scope"), value.scope)
        self.guid((*path, "guid"), value.guid)
        self.size((*path, "size_bytes"), value.size_bytes)
        self.checksum((*path, "checksum"), value.checksum)
        self.version((*path, "version"), value.version)

    def _judge(self, field: FieldPath, problem: str | None) -> None:
        if problem is not None:
            self.add(field, problem)


def rendered(field: FieldPath) -> str:
    """The path of a field as text."""
    if isinstance(field, str):
        return field
    path = ""
    for part in field:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _seconds(span: timedelta) -> str:
    return f"{span / timedelta(seconds=1):,.6f}".rstrip("0").rstrip(".")


def _span(minimum: timedelta, maximum: timedelta) -> str:
    return f"{_seconds(minimum)} to {_seconds(maximum)} s"
