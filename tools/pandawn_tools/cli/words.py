"""Words for the values of the API's enums: `running` for `JOB_STATE_RUNNING`, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import EnumDescriptor

from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli.errors import usage_error

if TYPE_CHECKING:
    # For types only. A caller that has a value of an enum has imported its module; no command needs them all.
    from pandawn.broker.v1 import caller_pb2, job_pb2, task_pb2
    from pandawn.filecatalog.v1 import filecatalog_pb2 as filecatalog
    from pandawn.monitor.v1 import monitor_pb2 as monitor
    from pandawn.queueconfig.v1 import access_pb2 as access
    from pandawn.queueconfig.v1 import parameters_pb2

FINAL_JOB_STATES = frozenset(
    {types.JOB_STATE_FINISHED, types.JOB_STATE_FAILED, types.JOB_STATE_CANCELLED}
)

_JOB_STATE = "pandawn.common.v1.JobState"
_QUEUE_STATUS = "pandawn.queueconfig.v1.QueueStatus"
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _find(name: str) -> tuple[EnumDescriptor, str]:
    """Returns the enum with this full name, and the prefix of its values, such as `JOB_STATE_`."""
    enum = descriptor_pool.Default().FindEnumTypeByName(name)
    return enum, _WORD_START.sub("_", enum.name).upper() + "_"


def _word(value: int, name: str) -> str:
    # The first value of each enum is UNSPECIFIED.
    if value == 0:
        return ""
    enum, prefix = _find(name)
    known = enum.values_by_number.get(value)
    # A newer server may have values that this program does not know.
    if known is None:
        return f"#{value}"
    return known.name.removeprefix(prefix).lower().replace("_", "-")


def _words(name: str) -> list[str]:
    enum, _ = _find(name)
    return [_word(value.number, name) for value in enum.values[1:]]


def _read(text: str, name: str, what: str) -> int:
    enum, prefix = _find(name)
    known = enum.values_by_name.get(
        prefix + text.strip().upper().replace("-", "_").removeprefix(prefix)
    )
    if known is None or known.number == 0:
        raise usage_error(
            "INVALID_OPTION",
            f"{text!r} is not a {what}",
            remedies=[f"choose from: {', '.join(_words(name))}"],
        )
    return known.number


def subject_kind(value: access.SubjectKind.ValueType) -> str:
    """Returns a word such as `token-group`."""
    return _word(value, "pandawn.queueconfig.v1.SubjectKind")


def access_effect(value: access.AccessEffect.ValueType) -> str:
    """Returns `allow` or `deny`."""
    return _word(value, "pandawn.queueconfig.v1.AccessEffect")


def job_state(value: types.JobState.ValueType) -> str:
    """Returns a word such as `running`; empty for an unset state."""
    return _word(value, _JOB_STATE)


def job_kind(value: types.JobKind.ValueType) -> str:
    """Returns `build` or `run`."""
    return _word(value, "pandawn.common.v1.JobKind")


def phase(value: types.Phase.ValueType) -> str:
    """Returns `stage-in`, `payload` or `stage-out`; empty when there is none."""
    return _word(value, "pandawn.common.v1.Phase")


def component(value: types.ErrorComponent.ValueType) -> str:
    """Returns `pilot`, `payload` or `server`."""
    return _word(value, "pandawn.common.v1.ErrorComponent")


def match_rule(value: types.MatchRule.ValueType) -> str:
    """Returns a word such as `local-bytes`."""
    return _word(value, "pandawn.common.v1.MatchRule")


def task_state(value: task_pb2.TaskState.ValueType) -> str:
    """Returns `running`, `finished`, `failed` or `cancelled`."""
    return _word(value, "pandawn.broker.v1.TaskState")


def file_role(value: job_pb2.FileRole.ValueType) -> str:
    """Returns `input`, `library`, `output` or `log`."""
    return _word(value, "pandawn.broker.v1.FileRole")


def pilot_state(value: monitor.PilotState.ValueType) -> str:
    """Returns `live`, `ended` or `lost`."""
    return _word(value, "pandawn.monitor.v1.PilotState")


def queue_status(value: parameters_pb2.QueueStatus.ValueType) -> str:
    """Returns `online`, `offline`, `test` or `brokeroff`."""
    return _word(value, _QUEUE_STATUS)


def delta_result(value: filecatalog.DeltaResult.ValueType) -> str:
    """Returns `applied`, `repeated` or `inventory-requested`."""
    return _word(value, "pandawn.filecatalog.v1.DeltaResult")


def read_job_state(text: str) -> types.JobState.ValueType:
    """Reads a state of a job. Raises CliError with a list of all states if it is not one."""
    number = _read(text, _JOB_STATE, "state of a job")
    return types.JobState.ValueType(number)


def read_queue_status(text: str) -> parameters_pb2.QueueStatus.ValueType:
    """Reads a status of a queue. Raises CliError with a list of all if it is not one."""
    number = _read(text, _QUEUE_STATUS, "status of a queue")
    return cast("parameters_pb2.QueueStatus.ValueType", number)


def job_state_words() -> list[str]:
    """Returns all states of a job, in the order of a job's life; for shell completion."""
    return _words(_JOB_STATE)


def queue_status_words() -> list[str]:
    """Returns all states of a queue; for shell completion."""
    return _words(_QUEUE_STATUS)


def caller_method(value: caller_pb2.CallerMethod.ValueType) -> str:
    """Returns how a caller was authenticated: `token`, `x509`, `local` ..."""
    return _word(value, "pandawn.broker.v1.CallerMethod")


def caller_role(value: caller_pb2.CallerRole.ValueType) -> str:
    """Returns a role of a caller: `user`, `site-admin` ..."""
    return _word(value, "pandawn.broker.v1.CallerRole")
