"""Conversion of value types that several services share."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import blake2b

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pandawn.common.v1 import common_pb2
from pandawn_server.domain.catalog.file_version import VersionKind
from pandawn_server.domain.catalog.inventory import CachedFile, FileRef
from pandawn_server.domain.leases.attempts import Match
from pandawn_server.domain.tasks.jobs import ErrorComponent, JobError, Requirements, ResourceUse
from pandawn_server.domain.tasks.tasks import File
from pandawn_server.wire.edge.enums import ERROR_COMPONENT, LOCALITY, MATCH_RULE
from pandawn_server.wire.edge.rules import MAX_INT64
from pandawn_server.wire.edge.validation import Checker, FieldPath

MAX_WALL_TIME = timedelta(days=30)
"""Maximum wall time that a job may ask for or a pilot may offer."""

_MAX_CORES = 100_000
_SECONDS_A_DAY = 86_400


def digest_of(message: Message) -> str:
    """A digest of a request, to detect that a request_id is used again for something else."""
    return blake2b(message.SerializeToString(deterministic=True), digest_size=16).hexdigest()


def to_duration(span: timedelta) -> Duration:
    """Converts a duration."""
    message = Duration()
    message.FromTimedelta(span)
    return message


def fill_duration(message: Duration, span: timedelta) -> None:
    """Sets a duration that is not negative; several times faster than `FromTimedelta`."""
    message.seconds = span.days * _SECONDS_A_DAY + span.seconds
    message.nanos = span.microseconds * 1000


def to_timestamp(time: datetime | None) -> Timestamp | None:
    """Converts a time; None stays unset."""
    if time is None:
        return None
    message = Timestamp()
    message.FromDatetime(time)
    return message


def to_sum(size_bytes: int) -> int:
    """A sum of sizes, limited to what the contracts can hold: callers report sizes, and they may be wrong."""
    return min(size_bytes, MAX_INT64)


def to_file(file: File) -> common_pb2.File:
    """Converts a file without its URL."""
    message = common_pb2.File()
    fill_file(message, file)
    return message


def fill_file(message: common_pb2.File, file: File) -> None:
    """Sets a file without its URL."""
    message.lfn, message.size_bytes, _, message.scope, guid, checksum, version = file
    if guid:
        message.guid = guid
    if checksum:
        message.checksum = checksum
    if version:
        message.version = version


def from_file(message: common_pb2.File, url: str, version: str) -> File:
    """Converts a file with its URL; the server decides its version."""
    return File(
        message.lfn,
        message.size_bytes,
        url,
        message.scope,
        message.guid.lower(),
        message.checksum,
        version,
    )


def from_cached_file(message: common_pb2.File) -> CachedFile:
    """Converts a file in a cache; a strong checksum is a version too."""
    version = message.version
    if not version and message.checksum.startswith(f"{VersionKind.SHA256.value}:"):
        version = message.checksum
    return CachedFile(message.lfn, message.size_bytes, message.scope, message.guid.lower(), version)


def to_cached_file(file: CachedFile) -> common_pb2.File:
    """Converts a file in a cache."""
    return common_pb2.File(
        lfn=file.lfn,
        scope=file.scope,
        guid=file.guid,
        size_bytes=file.size_bytes,
        version=file.version,
    )


def from_ref(message: common_pb2.FileRef) -> FileRef:
    """Converts the names of a file; GUIDs are compared in lower case."""
    return FileRef(message.lfn, message.scope, message.guid.lower(), message.version)


def to_requirements(requirements: Requirements) -> common_pb2.Requirements:
    """Converts requirements; those without a value stay unset."""
    message = common_pb2.Requirements(
        memory_bytes=requirements.memory_bytes,
        cores=requirements.cores,
        disk_bytes=requirements.disk_bytes,
    )
    if requirements.wall_time is not None:
        message.wall_time.FromTimedelta(requirements.wall_time)
    return message


def from_requirements(
    check: Checker, field: FieldPath, message: common_pb2.Requirements
) -> Requirements:
    """Checks and converts requirements or an offer."""
    path = field if isinstance(field, tuple) else (field,)
    has = message.HasField
    memory = message.memory_bytes if has("memory_bytes") else None
    cores = message.cores if has("cores") else None
    disk = message.disk_bytes if has("disk_bytes") else None
    # Field paths are built only for violations: every poll comes through here.
    if memory is not None and memory < 0:
        check.size((*path, "memory_bytes"), memory)
    if cores is not None and not 0 <= cores <= _MAX_CORES:
        check.range((*path, "cores"), cores, 0, _MAX_CORES)
    if disk is not None and disk < 0:
        check.size((*path, "disk_bytes"), disk)
    wall_time = None
    if has("wall_time"):
        wall_time = check.duration((*path, "wall_time"), message.wall_time, maximum=MAX_WALL_TIME)
    return Requirements(memory, cores, disk, wall_time)


def to_error(error: JobError | None) -> common_pb2.JobError | None:
    """Converts an error; None stays unset."""
    if error is None:
        return None
    return common_pb2.JobError(
        component=ERROR_COMPONENT.to_wire(error.component),
        code=error.code,
        reason=error.reason,
        text=error.text,
    )


def from_error(check: Checker, field: FieldPath, message: common_pb2.JobError) -> JobError:
    """Checks and converts an error that a pilot reports."""
    path = field if isinstance(field, tuple) else (field,)
    component = ERROR_COMPONENT.to_domain(message.component)
    check.require(component is not None, (*path, "component"), "must be set")
    check.name((*path, "reason"), message.reason)
    # The text may hold the output of a payload. It is cleaned, not rejected, or the job could never end.
    text = "".join(c if c.isprintable() else " " for c in message.text)
    return JobError(
        component or ErrorComponent.PILOT,
        message.code,
        message.reason,
        text.encode()[:2000].decode(errors="ignore"),
    )


def to_use(use: ResourceUse) -> common_pb2.ResourceUse:
    """Converts what a job used."""
    return common_pb2.ResourceUse(
        cpu_seconds=use.cpu_seconds,
        max_rss_bytes=use.max_rss_bytes,
        work_dir_bytes=use.work_dir_bytes,
    )


def from_use(check: Checker, field: FieldPath, message: common_pb2.ResourceUse) -> ResourceUse:
    """Checks and converts what a job used."""
    path = field if isinstance(field, tuple) else (field,)
    return ResourceUse(
        check.measure((*path, "cpu_seconds"), message.cpu_seconds),
        check.size((*path, "max_rss_bytes"), message.max_rss_bytes),
        check.size((*path, "work_dir_bytes"), message.work_dir_bytes),
    )


def to_match(match: Match, summary: str) -> common_pb2.Match:
    """Converts why a job went to a node."""
    message = common_pb2.Match()
    fill_match(message, match, summary)
    return message


def fill_match(message: common_pb2.Match, match: Match, summary: str) -> None:
    """Sets why a job went to a node."""
    message.locality = LOCALITY.to_wire(match.locality)
    message.rule = MATCH_RULE.to_wire(match.rule)
    message.input_bytes = match.input_bytes
    message.local_bytes = match.local_bytes
    message.candidates = match.candidates
    message.held = match.held
    fill_duration(message.waited, match.waited)
    message.summary = summary
