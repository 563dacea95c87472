"""A call that changes something can be repeated: by its `request_id`, or because doing it twice is doing it once."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor

from pandawn_server.wire.edge.policies import POLICIES
from tests.fixtures.messages import methods

TWICE_IS_ONCE = {
    "AddFiles": "deltas have an epoch and a sequence",
    "ApplyConfig": "what is already so is no change",
    "CancelJob": "a job that is cancelled stays so",
    "CancelTask": "a task that is cancelled stays so",
    "ClearOverride": "clearing what is not set changes nothing",
    "DeleteFiles": "deltas have an epoch and a sequence",
    "DeregisterPilot": "a pilot that has ended stays so",
    "DownloadSandbox": "only reads",
    "DrainNode": "a condition, and the last reason for it",
    "GrantAccess": "writing what is there changes nothing",
    "OpenSession": "each session is as good as the other",
    "PinFiles": "what is pinned is pinned",
    "ReleaseJobs": "a lease that was given back is none",
    "RemoveNode": "a second call is told that there is no such node",
    "RenewLeases": "a lease lasts from the last call",
    "ReportInventory": "the last inventory counts",
    "ReportJobs": "a report of the same attempt is the same report",
    "ResumeNode": "a condition, and the last reason for it",
    "RevokeAccess": "a second call is told that there is no such entry",
    "Rollback": "going back to where one is changes nothing",
    "SuspendNode": "a condition, and the last reason for it",
    "UnpinFiles": "what is not pinned is not pinned",
    "UploadSandbox": "a sandbox is known by its content",
}
"""Methods without `request_id`, and why they need none."""


def names(kind: Descriptor) -> Iterator[str]:
    """Names of the fields of a request, and of those of the messages in it: the first of a stream has a header."""
    for field in kind.fields:
        yield field.name
        if field.message_type is not None:
            yield from (inner.name for inner in field.message_type.fields)


def test_a_change_has_a_request_id_or_a_reason_to_have_none() -> None:
    changing = {m for m in methods() if POLICIES[m.path].scope not in ("", "compute.read")}
    without = {
        m.descriptor.name for m in changing if "request_id" not in names(m.descriptor.input_type)
    }
    assert without == set(TWICE_IS_ONCE)
