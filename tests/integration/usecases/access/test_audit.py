"""The audit is read by those who look after what it is about, page by page, and does not grow for ever."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from pandawn_server.domain.access.audit import About, AuditFilter, AuditRecord
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Principal
from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.usecases.access.audit import list_audit, write_audit
from tests.fixtures.clock import NOON
from tests.fixtures.factories import QUEUE, SITE
from tests.fixtures.principals import ADMIN, OPERATOR, STRANGER
from tests.fixtures.world import KEPT, World


def line(rpc: str = "Broker.SubmitTask", code: str = "OK", **more: Any) -> AuditRecord:
    about = {k: more.pop(k) for k in ("task_id", "queue", "site", "thing") if k in more}
    return AuditRecord(
        time=more.pop("time", NOON),
        rpc=rpc,
        peer="192.0.2.1",
        code=code,
        about=About(**about),
        **{"user": "anna", "method": "token", "rule": "members", **more},
    )


def seen(world: World, by: Principal = LOCAL_OPERATOR, **wanted: Any) -> list[int]:
    return [n.audit_id for n in list_audit(world.context, None, 99, AuditFilter(**wanted), by)]


@pytest.fixture
def audited(world: World) -> World:
    world.queue("ANALY_FAR", site="ELSEWHERE")
    write_audit(
        world.context,
        [
            line(task_id=1, queue=QUEUE),
            line("Broker.CancelTask", task_id=1, queue=QUEUE, user="ben"),
            line("FileCatalog.PinFiles", site=SITE, user="rosa"),
            line(task_id=2, queue="ANALY_FAR", time=NOON + timedelta(hours=1)),
            line("Broker.GetTask", "PERMISSION_DENIED", task_id=1, queue=QUEUE, user="ben"),
            line("Broker.GetTask", "UNAUTHENTICATED", user="", count=7),
            line("Broker.SubmitTask", "NOT_FOUND", queue="NOWHERE", reason="QUEUE_NOT_FOUND"),
        ],
    )
    return world


def test_a_line_is_read_as_it_was_written(world: World) -> None:
    record = line(
        "Broker.GetTask",
        "PERMISSION_DENIED",
        subject="/CN=Änna",
        reason="NOT_YOUR_TASK",
        text="it's another's",
        count=3,
        queue=QUEUE,
        thing="revision 7",
    )
    write_audit(world.context, [record])
    (numbered,) = list_audit(world.context, None, 9, AuditFilter(), OPERATOR)
    assert numbered.record == record


def test_operators_filter_all_lines(audited: World) -> None:
    assert seen(audited) == [7, 6, 5, 4, 3, 2, 1]
    assert seen(audited, user="ben") == [5, 2]
    assert seen(audited, rpcs=("Broker.SubmitTask",)) == [7, 4, 1]
    assert seen(audited, queue=QUEUE) == [5, 2, 1]
    assert seen(audited, task_id=1) == [5, 2, 1]
    assert seen(audited, denied_only=True) == [6, 5]
    assert seen(audited, since=NOON + timedelta(minutes=30)) == [4]
    assert seen(audited, since=NOON + timedelta(days=1)) == []
    assert seen(audited, user="ben", task_id=1, denied_only=True) == [5]


def test_administrators_read_what_is_about_their_sites_and_queues(audited: World) -> None:
    assert seen(audited, ADMIN) == [5, 3, 2, 1]
    assert seen(audited, ADMIN, user="ben") == [5, 2]
    assert seen(audited, STRANGER) == [4]
    with pytest.raises(ForbiddenError) as caught:
        seen(audited, ADMIN, queue="ANALY_FAR")
    assert caught.value.reason == "SITE_ADMIN_REQUIRED"


def test_pages_follow_one_another(audited: World) -> None:
    pages, before = [], None
    while page := list_audit(audited.context, before, 2, AuditFilter(), ADMIN):
        pages += [numbered.audit_id for numbered in page]
        before = page[-1].audit_id
    assert pages == [5, 3, 2, 1]


def test_old_lines_are_forgotten(audited: World) -> None:
    audited.advance(days=KEPT.audit.days, minutes=1)
    audited.retain()
    assert seen(audited) == [4]
