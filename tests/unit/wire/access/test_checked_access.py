"""What a list says of somebody whom many of its entries match."""

from __future__ import annotations

from pandawn_server.domain.access.lists import (
    AccessEntry,
    Effect,
    Identity,
    QueueRules,
    SubjectKind,
    decide,
)
from pandawn_server.domain.access.principals import Method
from pandawn_server.domain.dispatch.reply_size import MAX_REPLY_BYTES
from pandawn_server.storage.access.limits import Load
from pandawn_server.usecases.access.lists import Checked
from pandawn_server.wire.access.convert import to_checked
from tests.fixtures.clock import NOON


def test_the_most_specific_entries_are_named_as_far_as_a_reply_holds_them_and_all_are_counted() -> (
    None
):
    dn = "/CN=" + "a" * 400
    entries = [
        AccessEntry("Q", SubjectKind.DN, dn[:length] + "*", Effect.ALLOW, "root", NOON, "m" * 2_000)
        for length in range(1, 401)
        for _ in range(5)
    ]
    who = Identity("ben", (), Method.X509, dn)
    decision = decide(entries, who, QueueRules(), NOON)
    checked = Checked(who, decision, "yes", Load(), shows_entries=True)
    reply = to_checked(checked)
    assert reply.ByteSize() <= MAX_REPLY_BYTES
    assert (reply.match_count, reply.allowed) == (2_000, True)
    assert 1_000 < len(reply.matching) < 2_000
    assert (reply.matching[0], reply.entry.subject) == (reply.entry, dn[:400] + "*")
