"""Short words for the enums of the contract, in both directions."""

from __future__ import annotations

from google.protobuf.descriptor import EnumDescriptor

from pandawn.broker.v1 import caller_pb2, job_pb2, task_pb2
from pandawn.common.v1 import common_pb2 as types
from pandawn.filecatalog.v1 import filecatalog_pb2 as filecatalog
from pandawn.monitor.v1 import monitor_pb2 as monitor
from pandawn.queueconfig.v1 import access_pb2 as access
from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.cli.errors import usage_error

FINAL_JOB_STATES = frozenset(
    {types.JOB_STATE_FINISHED, types.JOB_STATE_FAILED, types.JOB_STATE_CANCELLED}
)

# Enums to prefixes of their values' names. The first value of each says that nothing is set.
_JOB_STATE = "JOB_STATE_"
_QUEUE_STATUS = "QUEUE_STATUS_"


def _word(value: int, enum: EnumDescriptor, prefix: str) -> str:
    if value == 0:
        return ""
    known = enum.values_by_number.get(value)
    # A newer server may have values that this program does not know.
    if known is None:
        return f"#{value}"
    return known.name.removeprefix(prefix).lower().replace("_", "-")


def _words(enum: EnumDescriptor, prefix: str) -> list[str]:
    return [_word(value.number, enum, prefix) for value in enum.values[1:]]


def _read(text: str, enum: EnumDescriptor, prefix: str, what: str) -> int:
    name = prefix + text.strip().upper().replace("-", "_").removeprefix(prefix)
    known = enum.values_by_name.get(name)
    if known is None or known.number == 0:
        raise usage_error(
            "INVALID_OPTION",
            f"{text!r} is no {what}",
            remedies=[f"choose from: {', '.join(_words(enum, prefix))}"],
        )
    return known.number


def subject_kind(value: access.SubjectKind.ValueType) -> str:
    """Returns a word such as `token-group`."""
    return _word(value, access.SubjectKind.DESCRIPTOR, "SUBJECT_KIND_")


def access_effect(value: access.AccessEffect.ValueType) -> str:
    """Returns `allow` or `deny`."""
    return _word(value, access.AccessEffect.DESCRIPTOR, "ACCESS_EFFECT_")


def job_state(value: types.JobState.ValueType) -> str:
    """Returns a word such as `running`; empty for an unset state."""
    return _word(value, types.JobState.DESCRIPTOR, _JOB_STATE)


def job_kind(value: types.JobKind.ValueType) -> str:
    """Returns `build` or `run`."""
    return _word(value, types.JobKind.DESCRIPTOR, "JOB_KIND_")


def phase(value: types.Phase.ValueType) -> str:
    """Returns `stage-in`, `payload` or `stage-out`; empty when there is none."""
    return _word(value, types.Phase.DESCRIPTOR, "PHASE_")


def component(value: types.ErrorComponent.ValueType) -> str:
    """Returns `pilot`, `payload` or `server`."""
    return _word(value, types.ErrorComponent.DESCRIPTOR, "ERROR_COMPONENT_")


def match_rule(value: types.MatchRule.ValueType) -> str:
    """Returns a word such as `local-bytes`."""
    return _word(value, types.MatchRule.DESCRIPTOR, "MATCH_RULE_")


def task_state(value: task_pb2.TaskState.ValueType) -> str:
    """Returns `running`, `finished`, `failed` or `cancelled`."""
    return _word(value, task_pb2.TaskState.DESCRIPTOR, "TASK_STATE_")


def file_role(value: job_pb2.FileRole.ValueType) -> str:
    """Returns `input`, `library`, `output` or `log`."""
    return _word(value, job_pb2.FileRole.DESCRIPTOR, "FILE_ROLE_")


def pilot_state(value: monitor.PilotState.ValueType) -> str:
    """Returns `live`, `ended` or `lost`."""
    return _word(value, monitor.PilotState.DESCRIPTOR, "PILOT_STATE_")


def queue_status(value: parameters_pb2.QueueStatus.ValueType) -> str:
    """Returns `online`, `offline`, `test` or `brokeroff`."""
    return _word(value, parameters_pb2.QueueStatus.DESCRIPTOR, _QUEUE_STATUS)


def delta_result(value: filecatalog.DeltaResult.ValueType) -> str:
    """Returns `applied`, `repeated` or `inventory-requested`."""
    return _word(value, filecatalog.DeltaResult.DESCRIPTOR, "DELTA_RESULT_")


def read_job_state(text: str) -> types.JobState.ValueType:
    """Reads a state of a job; raises `CliError` that lists them all if there is none such."""
    number = _read(text, types.JobState.DESCRIPTOR, _JOB_STATE, "state of a job")
    return types.JobState.ValueType(number)


def read_queue_status(text: str) -> parameters_pb2.QueueStatus.ValueType:
    """Reads a status of a queue; raises `CliError` that lists them all if there is none such."""
    number = _read(text, parameters_pb2.QueueStatus.DESCRIPTOR, _QUEUE_STATUS, "status of a queue")
    return parameters_pb2.QueueStatus.ValueType(number)


def job_state_words() -> list[str]:
    """Returns all states of a job, in the order of its life; for shell completion."""
    return _words(types.JobState.DESCRIPTOR, _JOB_STATE)


def queue_status_words() -> list[str]:
    """Returns all states of a queue; for shell completion."""
    return _words(parameters_pb2.QueueStatus.DESCRIPTOR, _QUEUE_STATUS)


def caller_method(value: caller_pb2.CallerMethod.ValueType) -> str:
    """Returns how a caller showed who it is: `token`, `x509`, `local` ..."""
    return _word(value, caller_pb2.CallerMethod.DESCRIPTOR, "CALLER_METHOD_")


def caller_role(value: caller_pb2.CallerRole.ValueType) -> str:
    """Returns what a caller may be: `user`, `site-admin` ..."""
    return _word(value, caller_pb2.CallerRole.DESCRIPTOR, "CALLER_ROLE_")
