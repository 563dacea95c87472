"""Queues: their parameters with defaults and bounds, and whether they take work.

The contract (`pandawn/queueconfig/v1/parameters.proto`) describes each parameter and its unit. A test
compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple, cast, get_type_hints

from pandawn_server.domain.errors import NotFoundError, PreconditionError, Violation
from pandawn_server.domain.tasks.jobs import Requirements

MIB = 1024**2
GIB = 1024**3

LONGEST_HEARTBEAT = timedelta(seconds=10)
"""A user who cancels a job expects it to end within seconds. The cost: a thousand pilots make a hundred
calls a second, which the server handles in few transactions."""


class QueueStatus(Enum):
    """Whether a queue takes work."""

    ONLINE = "online"
    OFFLINE = "offline"
    TEST = "test"
    BROKEROFF = "brokeroff"
    PAUSED = "paused"


class PayloadIsolation(Enum):
    """Whether a payload runs as another user than its pilot."""

    AUTO = "auto"
    REQUIRED = "required"
    NONE = "none"


Value = (
    str
    | int
    | float
    | bool
    | timedelta
    | tuple[str, ...]
    | Mapping[str, str]
    | QueueStatus
    | PayloadIsolation
)
"""Value of a parameter."""

Number = int | float | timedelta


class Bounds(NamedTuple):
    """Smallest and largest value of a parameter."""

    low: Number
    high: Number


def within(low: Number, high: Number) -> Mapping[str, Bounds]:
    """Returns the metadata of a field that has bounds."""
    return {"bounds": Bounds(low, high)}


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with its effective parameters. Sizes in bytes; 0 means no limit where the contract says so.

    `revision` is the last one that may have changed any of them.
    """

    name: str
    etag: str
    update_time: datetime
    revision: int
    # Status.
    site: str = ""
    cloud: str = ""
    status: QueueStatus = QueueStatus.ONLINE
    state_reason: str = ""
    # Limits.
    max_input_bytes: int = field(default=14336 * MIB, metadata=within(0, 2**60))
    max_work_dir_bytes: int = field(default=32 * GIB, metadata=within(0, 2**60))
    max_wall_time: timedelta = field(
        default=timedelta(days=4), metadata=within(timedelta(seconds=1), timedelta(days=30))
    )
    min_wall_time: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(days=30))
    )
    memory_bytes: int = field(default=0, metadata=within(0, 2**50))
    min_memory_bytes: int = field(default=0, metadata=within(0, 2**50))
    cores: int = field(default=1, metadata=within(1, 100_000))
    core_power: float = field(default=0.0, metadata=within(0, 10_000))
    multi_job_window: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(days=1))
    )
    lease_duration: timedelta = field(
        default=timedelta(minutes=10), metadata=within(timedelta(seconds=5), timedelta(days=1))
    )
    heartbeat_interval: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(hours=8))
    )
    # Storage.
    storage_root: str = ""
    immutable_scopes: tuple[str, ...] = ()
    copy_tools_in: tuple[str, ...] = ()
    copy_tools_out: tuple[str, ...] = ()
    copy_tool_setups: Mapping[str, str] = field(default_factory=dict, hash=False)
    url_prefixes: Mapping[str, str] = field(default_factory=dict, hash=False)
    ddm_endpoints_in: tuple[str, ...] = ()
    ddm_endpoints_out: tuple[str, ...] = ()
    allow_wan: bool = True
    direct_access_lan: bool = False
    direct_access_wan: bool = False
    use_pcache: bool = True
    stage_in_attempts: int = field(default=2, metadata=within(1, 20))
    stage_out_attempts: int = field(default=2, metadata=within(1, 20))
    stage_in_timeout: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(days=1))
    )
    stage_out_timeout: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(days=1))
    )
    # Environment.
    releases: tuple[str, ...] = ()
    platform: str = ""
    container_type: str = ""
    container_options: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    app_dir: str = ""
    scratch_dir: str = ""
    setup_command: str = ""
    job_recovery: bool = True
    recovery_dir: str = ""
    # Access.
    open_access: bool = True
    pilot_methods: tuple[str, ...] = ("x509", "token", "host", "local")
    pilot_networks: tuple[str, ...] = ()
    pilot_host_pattern: str = ""
    max_running_per_user: int = field(default=0, metadata=within(0, 10_000_000))
    max_waiting_per_user: int = field(default=0, metadata=within(0, 10_000_000))
    # Brokerage.
    locality_wait: timedelta = field(
        default=timedelta(0), metadata=within(timedelta(0), timedelta(hours=1))
    )
    priority_band: int = field(default=100, metadata=within(1, 10_000))
    fair_share: str = ""
    transferring_limit: int = field(default=0, metadata=within(0, 10_000_000))
    # Batch.
    batch_system: str = ""
    local_queue: str = ""
    ce_endpoints: tuple[str, ...] = ()
    batch_submit_options: str = ""
    max_queued_pilots: int = field(default=0, metadata=within(0, 1_000_000))
    pilot_version: str = ""
    # Isolation.
    payload_isolation: PayloadIsolation = PayloadIsolation.AUTO
    payload_account: str = ""
    # Other.
    comment: str = ""
    catchall: Mapping[str, str] = field(default_factory=dict, hash=False)


_OF_THE_DOCUMENT = ("name", "etag", "update_time", "revision")

_HINTS = get_type_hints(Queue)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its type (`tuple` for a list, `Mapping` for a map), default and bounds."""

    name: str
    type: type
    default: Value
    bounds: Bounds | None


def _parameters() -> Iterator[Parameter]:
    for item in fields(Queue):
        if item.name not in _OF_THE_DOCUMENT:
            hint = _HINTS[item.name]
            default = {} if item.default is MISSING else cast("Value", item.default)
            yield Parameter(
                item.name,
                getattr(hint, "__origin__", hint),
                default,
                item.metadata.get("bounds"),
            )


PARAMETERS: Mapping[str, Parameter] = {parameter.name: parameter for parameter in _parameters()}
"""All parameters by name, in the order of `Queue`."""

SETTING_NAMES = tuple(PARAMETERS)
"""Names of all parameters, as in the contract."""

BOUNDS: Mapping[str, Bounds] = {p.name: p.bounds for p in PARAMETERS.values() if p.bounds}
"""Smallest and largest value of each numeric parameter."""


class QueueSettings(Mapping[str, Value]):
    """Parameters that somebody set, by name. A parameter that is missing is *unset*, which is not zero."""

    __slots__ = ("_values",)

    def __init__(self, **values: Value | None) -> None:
        """None means unset."""
        # In the order of the contract, so that all output has that order.
        self._values = {
            name: value for name in SETTING_NAMES if (value := values.pop(name, None)) is not None
        }
        assert not any(value is not None for value in values.values()), f"no parameters: {values}"

    def __getitem__(self, name: str) -> Value:
        """Returns the value of a parameter; raises `KeyError` if it is unset."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the names of the parameters that are set."""
        return iter(self._values)

    def __len__(self) -> int:
        """Number of parameters that are set."""
        return len(self._values)

    def __hash__(self) -> int:
        """Hashes the names only: maps among the values have no hash, and equal settings have equal names."""
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        """Returns the call that makes it."""
        return f"QueueSettings({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"


NOTHING_SET = QueueSettings()


def effective_queue(
    name: str, settings: Mapping[str, Value], etag: str, update_time: datetime, revision: int = 0
) -> Queue:
    """Returns a queue whose unset parameters have their defaults.

    If no site is set, it is the queue's name. The heartbeat interval is at most a third of the lease, so that two
    heartbeats may be lost before it expires. By default it is at most `LONGEST_HEARTBEAT`, since a cancel reaches
    the job with the next heartbeat.
    """
    values = dict(settings)
    values["site"] = values.get("site") or name
    lease = cast("timedelta", values.get("lease_duration") or PARAMETERS["lease_duration"].default)
    beat = cast("timedelta | None", values.get("heartbeat_interval")) or LONGEST_HEARTBEAT
    values["heartbeat_interval"] = min(lease / 3, beat)
    return Queue(name, etag, update_time, revision, **values)  # type: ignore[arg-type]


def fits(queue: Queue, asked: Requirements) -> bool:
    """Whether the requirements of jobs are within the limits of a queue."""
    memory, wall_time = asked.memory_bytes, asked.wall_time
    return (
        memory is None or queue.min_memory_bytes <= memory <= (queue.memory_bytes or memory)
    ) and (wall_time is None or queue.min_wall_time <= wall_time <= queue.max_wall_time)


def merged(
    old: Mapping[str, Value], new: Mapping[str, Value], mask: Iterable[str]
) -> QueueSettings:
    """Returns `old` with the parameters in `mask` taken from `new`; those unset in `new` become unset."""
    return QueueSettings(**{**old, **{name: new.get(name) for name in mask}})


def bound_violations(
    settings: Mapping[str, Value], names: Collection[str] | None = None
) -> list[Violation]:
    """Returns a violation for each parameter in `settings` that is out of bounds; only for `names`, if given."""
    found = []
    for name, (low, high) in BOUNDS.items():
        value = settings.get(name)
        if value is None or (names is not None and name not in names):
            continue
        # NaN is not between any two numbers.
        if not low <= value <= high:  # type: ignore[operator]
            found.append(Violation(name, f"must be between {low} and {high}, is {value}"))
    return found


def queue_not_found(name: str) -> NotFoundError:
    """Returns the error for a queue that does not exist."""
    return NotFoundError(
        "QUEUE_NOT_FOUND",
        f"there is no queue {name!r}; `pandawn queues list` shows those that exist",
        metadata={"queue": name},
    )


def queue_offline(queue: Queue) -> PreconditionError:
    """Returns the error for a queue that takes no pilots."""
    return PreconditionError(
        "QUEUE_OFFLINE",
        f"queue {queue.name!r} is offline{because(queue)} and takes no pilots; an administrator of its site can "
        "set it online",
        metadata={"queue": queue.name},
    )


def because(queue: Queue) -> str:
    """Returns the queue's `state_reason` in parentheses, or an empty text."""
    return f" ({queue.state_reason})" if queue.state_reason else ""
