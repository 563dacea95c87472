"""What each method requires of its caller: one table, and a test that fails for a method without an entry.

A policy says which roles may call at all. Whether a caller may touch this task, queue or node is decided by the
use case, which knows the owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pandawn_server.domain.access.principals import Role

_PILOT, _USER, _ADMIN, _MONITOR = Role.PILOT, Role.USER, Role.SITE_ADMIN, Role.MONITOR


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call a method. Operators may call all methods and are not listed.

    `scope` is the WLCG scope that a token must have (WLCG Common JWT Profiles 1.0, capabilities of computing); empty
    means any token. `changes`: accepted calls are audited; `people_change`: only those of callers with a credential
    of their own. A method that `begins_session` checks credentials, not session tokens; one that `needs_session`
    is bound to one pilot or node; one that `starts_work` is closed to limited proxies. A pilot that has ended may
    still call methods with `after_end`.
    """

    roles: frozenset[Role]
    scope: str
    changes: bool = False
    people_change: bool = False
    begins_session: bool = False
    needs_session: bool = False
    starts_work: bool = False
    after_end: bool = False


def _reads(*roles: Role) -> Policy:
    return Policy(frozenset(roles), "compute.read")


def _writes(scope: str, *roles: Role) -> Policy:
    return Policy(frozenset(roles), scope, changes=True)


def _starts(scope: str, *roles: Role) -> Policy:
    return Policy(frozenset(roles), scope, changes=True, starts_work=True)


_EVERYBODY = (_PILOT, _USER, _ADMIN, _MONITOR)
_PEOPLE = (_USER, _ADMIN, _MONITOR)

# A pilot makes many calls, and each leaves an event, a lease or an attempt: they need no audit.
_PILOTS_WORK = Policy(frozenset({_PILOT}), "compute.create", needs_session=True)
# A pilot that did not get the answer retries the call after its session has ended.
_AFTER_END = replace(_PILOTS_WORK, after_end=True)
_BEGINS_SESSION = Policy(frozenset({_PILOT}), "compute.create", changes=True, begins_session=True)
# People seldom write to the catalog, and nothing else records it.
_CATALOG_WRITE = Policy(frozenset({_PILOT, _ADMIN}), "compute.modify", people_change=True)

POLICIES: Mapping[str, Policy] = {
    "/pandawn.broker.v1.Broker/WhoAmI": Policy(frozenset(_EVERYBODY), scope=""),
    "/pandawn.broker.v1.Broker/UploadSandbox": _writes("compute.create", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/SubmitTask": _starts("compute.create", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/SubmitLargeTask": _starts("compute.create", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/GetTask": _reads(*_PEOPLE),
    "/pandawn.broker.v1.Broker/ListTasks": _reads(*_PEOPLE),
    "/pandawn.broker.v1.Broker/GetJob": _reads(*_PEOPLE),
    "/pandawn.broker.v1.Broker/ListJobs": _reads(*_PEOPLE),
    "/pandawn.broker.v1.Broker/CancelTask": _writes("compute.cancel", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/CancelJob": _writes("compute.cancel", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/RetryTask": _starts("compute.modify", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/RetryJob": _starts("compute.modify", _USER, _ADMIN),
    "/pandawn.broker.v1.Broker/ExplainJob": _reads(*_PEOPLE),
    "/pandawn.dispatcher.v1.Dispatcher/RegisterPilot": _BEGINS_SESSION,
    "/pandawn.dispatcher.v1.Dispatcher/DeregisterPilot": _AFTER_END,
    "/pandawn.dispatcher.v1.Dispatcher/AcquireJobs": _PILOTS_WORK,
    "/pandawn.dispatcher.v1.Dispatcher/RenewLeases": _PILOTS_WORK,
    "/pandawn.dispatcher.v1.Dispatcher/ReportJobs": _PILOTS_WORK,
    "/pandawn.dispatcher.v1.Dispatcher/ReleaseJobs": _PILOTS_WORK,
    "/pandawn.dispatcher.v1.Dispatcher/DownloadSandbox": _PILOTS_WORK,
    "/pandawn.filecatalog.v1.FileCatalog/OpenSession": _BEGINS_SESSION,
    "/pandawn.filecatalog.v1.FileCatalog/AddFiles": _CATALOG_WRITE,
    "/pandawn.filecatalog.v1.FileCatalog/DeleteFiles": _CATALOG_WRITE,
    "/pandawn.filecatalog.v1.FileCatalog/FlushCache": _CATALOG_WRITE,
    "/pandawn.filecatalog.v1.FileCatalog/ReportInventory": _CATALOG_WRITE,
    "/pandawn.filecatalog.v1.FileCatalog/PinFiles": _writes("compute.modify", _ADMIN),
    "/pandawn.filecatalog.v1.FileCatalog/UnpinFiles": _writes("compute.modify", _ADMIN),
    "/pandawn.filecatalog.v1.FileCatalog/ListPins": _reads(*_PEOPLE),
    "/pandawn.filecatalog.v1.FileCatalog/CheckFiles": _reads(*_EVERYBODY),
    "/pandawn.filecatalog.v1.FileCatalog/LocateFiles": _reads(*_PEOPLE),
    "/pandawn.filecatalog.v1.FileCatalog/GetCoverage": _reads(*_PEOPLE),
    "/pandawn.filecatalog.v1.FileCatalog/ListNodeFiles": _reads(_PILOT, _ADMIN, _MONITOR),
    "/pandawn.filecatalog.v1.FileCatalog/GetCache": _reads(*_EVERYBODY),
    "/pandawn.monitor.v1.Monitor/CountJobs": _reads(*_PEOPLE),
    "/pandawn.monitor.v1.Monitor/ListPilots": _reads(*_PEOPLE),
    "/pandawn.monitor.v1.Monitor/ListNodes": _reads(*_PEOPLE),
    "/pandawn.monitor.v1.Monitor/StreamEvents": _reads(*_PEOPLE),
    "/pandawn.monitor.v1.Monitor/ListAudit": _reads(_ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/GetQueue": _reads(*_EVERYBODY),
    "/pandawn.queueconfig.v1.QueueConfig/ListQueues": _reads(*_PEOPLE),
    "/pandawn.queueconfig.v1.QueueConfig/WatchQueue": _reads(*_EVERYBODY),
    "/pandawn.queueconfig.v1.QueueConfig/GrantAccess": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/RevokeAccess": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/ListAccess": _reads(_ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/CheckAccess": _reads(*_PEOPLE),
    "/pandawn.queueconfig.v1.QueueConfig/ApplyConfig": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/ExportConfig": _reads(_ADMIN, _MONITOR),
    "/pandawn.queueconfig.v1.QueueConfig/SetOverride": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/ClearOverride": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/ListOverrides": _reads(_ADMIN, _MONITOR),
    "/pandawn.queueconfig.v1.QueueConfig/ListRevisions": _reads(*_PEOPLE),
    "/pandawn.queueconfig.v1.QueueConfig/DiffRevisions": _reads(_ADMIN, _MONITOR),
    "/pandawn.queueconfig.v1.QueueConfig/Rollback": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/DrainNode": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/SuspendNode": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/ResumeNode": _writes("compute.modify", _ADMIN),
    "/pandawn.queueconfig.v1.QueueConfig/RemoveNode": _writes("compute.modify", _ADMIN),
}
"""The policy of each method, by its full name in gRPC's form."""

OPERATORS_ONLY = Policy(frozenset(), "compute.modify")
"""For methods without an entry: gRPC's reflection, and services that others add."""

OPEN_METHODS = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})
"""Open to anybody: load balancers check the health and have no credentials."""
