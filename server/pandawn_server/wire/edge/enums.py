"""Pairs enums of the contracts with those of the domain by name, so that a missing value fails at import."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Generic, Protocol, TypeVar

from pandawn.broker.v1 import caller_pb2, job_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2
from pandawn.monitor.v1 import monitor_pb2
from pandawn.queueconfig.v1 import access_pb2, document_pb2, parameters_pb2, queue_pb2, revision_pb2
from pandawn_server.domain.access.lists import Effect, Ground, SubjectKind
from pandawn_server.domain.access.principals import Method, Role
from pandawn_server.domain.catalog.inventory import DeltaResult
from pandawn_server.domain.leases.attempts import Locality, MatchRule
from pandawn_server.domain.leases.nodes import Condition
from pandawn_server.domain.leases.pilots import PilotState
from pandawn_server.domain.queues.layers import DocumentKind, Level
from pandawn_server.domain.queues.queues import PayloadIsolation, QueueStatus
from pandawn_server.domain.queues.revisions import Action, Cause
from pandawn_server.domain.tasks.jobs import ErrorComponent, JobKind, JobState, Phase
from pandawn_server.domain.tasks.tasks import FileRole, TaskState

V = TypeVar("V", bound=int)
D = TypeVar("D", bound=Enum)


class _ProtoEnum(Protocol[V]):
    """The interface of an enum made by protobuf."""

    def items(self) -> list[tuple[str, V]]:
        """Names and numbers."""
        ...


class EnumPair(Generic[V, D]):
    """Maps the values of an enum of the contracts to those of the domain, and back."""

    def __init__(self, wire: _ProtoEnum[V], domain: type[D], prefix: str) -> None:
        """Pairs `PREFIX_NAME` with `NAME`; raises `KeyError` for a domain value without its pair."""
        numbers = dict(wire.items())
        self._to_wire: Mapping[D, V] = {v: numbers[f"{prefix}_{v.name}"] for v in domain}
        self._to_domain: Mapping[int, D] = {n: v for v, n in self._to_wire.items()}

    def to_wire(self, value: D) -> V:
        """The number on the wire."""
        return self._to_wire[value]

    def to_domain(self, number: int) -> D | None:
        """The domain's value; None for *unspecified* and for numbers that this version does not know."""
        return self._to_domain.get(number)


JOB_STATE = EnumPair(common_pb2.JobState, JobState, "JOB_STATE")
JOB_KIND = EnumPair(common_pb2.JobKind, JobKind, "JOB_KIND")
PHASE = EnumPair(common_pb2.Phase, Phase, "PHASE")
ERROR_COMPONENT = EnumPair(common_pb2.ErrorComponent, ErrorComponent, "ERROR_COMPONENT")
NODE_CONDITION = EnumPair(common_pb2.NodeCondition, Condition, "NODE_CONDITION")
LOCALITY = EnumPair(common_pb2.Locality, Locality, "LOCALITY")
MATCH_RULE = EnumPair(common_pb2.MatchRule, MatchRule, "MATCH_RULE")
FILE_ROLE = EnumPair(job_pb2.FileRole, FileRole, "FILE_ROLE")
TASK_STATE = EnumPair(task_pb2.TaskState, TaskState, "TASK_STATE")
QUEUE_STATUS = EnumPair(parameters_pb2.QueueStatus, QueueStatus, "QUEUE_STATUS")
PAYLOAD_ISOLATION = EnumPair(parameters_pb2.PayloadIsolation, PayloadIsolation, "PAYLOAD_ISOLATION")
DOCUMENT_KIND = EnumPair(document_pb2.DocumentKind, DocumentKind, "DOCUMENT_KIND")
DOCUMENT_ACTION = EnumPair(document_pb2.DocumentAction, Action, "DOCUMENT_ACTION")
REVISION_CAUSE = EnumPair(revision_pb2.RevisionCause, Cause, "REVISION_CAUSE")
LEVEL = EnumPair(queue_pb2.Level, Level, "LEVEL")
PILOT_STATE = EnumPair(monitor_pb2.PilotState, PilotState, "PILOT_STATE")
SUBJECT_KIND = EnumPair(access_pb2.SubjectKind, SubjectKind, "SUBJECT_KIND")
ACCESS_EFFECT = EnumPair(access_pb2.AccessEffect, Effect, "ACCESS_EFFECT")
ACCESS_GROUND = EnumPair(access_pb2.AccessGround, Ground, "ACCESS_GROUND")
DELTA_RESULT = EnumPair(filecatalog_pb2.DeltaResult, DeltaResult, "DELTA_RESULT")
CALLER_METHOD = EnumPair(caller_pb2.CallerMethod, Method, "CALLER_METHOD")
CALLER_ROLE = EnumPair(caller_pb2.CallerRole, Role, "CALLER_ROLE")
