"""What users tell of their inputs becomes versions; versions themselves are not theirs to tell."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pandawn.broker.v1.task_pb2 import TaskInput, TaskSpec
from pandawn.common.v1.common_pb2 import File
from pandawn_server.domain.catalog.inventory import CachedFile
from pandawn_server.domain.errors import InvalidRequestError
from pandawn_server.wire.edge.validation import Checker
from pandawn_server.wire.edge.values import from_cached_file
from pandawn_server.wire.tasks.convert import from_spec
from tests.fixtures.versions import RUN1, SHA256, VERSIONS, VersionExample

TOLD = [example for example in VERSIONS if not example.unique]


def spec_of(entry: TaskInput) -> TaskSpec:
    return TaskSpec(user="anna", dataset="d", command=["true"], inputs=[entry])


@pytest.mark.parametrize("example", TOLD)
def test_the_facts_of_an_input_become_its_version(example: VersionExample) -> None:
    entry = TaskInput(
        file=File(lfn="f", size_bytes=1, checksum=example.checksum),
        url=example.url,
        inode=example.inode,
    )
    if example.modify_time_ns is not None:
        entry.modify_time.FromNanoseconds(example.modify_time_ns)
    check = Checker()
    (made,) = from_spec(check, spec_of(entry)).inputs
    check.done()
    assert made.version == example.version


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (TaskInput(file=File(lfn="f", version=SHA256), url=RUN1), "task.inputs[0].file.version"),
        (
            TaskInput(file=File(lfn="f"), url=RUN1, modify_time=Timestamp(nanos=-1)),
            "task.inputs[0].modify_time",
        ),
    ],
    ids=["a version", "a time that is none"],
)
def test_what_a_submitter_may_not_tell_is_refused(entry: TaskInput, field: str) -> None:
    check = Checker()
    from_spec(check, spec_of(entry))
    with pytest.raises(InvalidRequestError) as caught:
        check.done()
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize(
    ("checksum", "version", "known"),
    [
        (SHA256, "", SHA256),
        ("adler32:0a1b2c3d", "", ""),
        (SHA256, "site", "site"),
        ("", "", ""),
    ],
)
def test_of_what_a_cache_reports_a_strong_checksum_is_a_version_and_a_weak_one_is_not(
    checksum: str, version: str, known: str
) -> None:
    told = File(lfn="f", size_bytes=1, checksum=checksum, version=version)
    assert from_cached_file(told) == CachedFile("f", 1, version=known)
