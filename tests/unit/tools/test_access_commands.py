"""How people write subjects of access lists, and times of the audit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pandawn.queueconfig.v1 import access_pb2 as access
from pandawn_tools.cli.access import read_subject
from pandawn_tools.cli.audit import read_since
from pandawn_tools.cli.errors import CliError

NOON = datetime(2026, 3, 8, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("anna", access.SUBJECT_KIND_USER, "anna"),
        ("user:everybody", access.SUBJECT_KIND_USER, "everybody"),
        ("everybody", access.SUBJECT_KIND_EVERYBODY, ""),
        ("group:locals", access.SUBJECT_KIND_GROUP, "locals"),
        ("token-group:/atlas/de", access.SUBJECT_KIND_TOKEN_GROUP, "/atlas/de"),
        ("dn:/CN=A: B*", access.SUBJECT_KIND_DN, "/CN=A: B*"),
    ],
)
def test_a_subject_is_read_as_it_is_shown(
    text: str, kind: access.SubjectKind.ValueType, name: str
) -> None:
    assert read_subject(text) == (kind, name)


def test_an_unknown_kind_of_subject_is_refused_with_those_there_are() -> None:
    with pytest.raises(CliError) as caught:
        read_subject("team:x")
    assert "token-group:NAME" in caught.value.remedies[0]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOON - timedelta(hours=2)),
        ("2026-03-07T10:00Z", datetime(2026, 3, 7, 10, tzinfo=UTC)),
        ("2026-03-07T10:00+02:00", datetime(2026, 3, 7, 8, tzinfo=UTC)),
        ("2026-03-07", datetime(2026, 3, 7).astimezone(UTC)),
    ],
)
def test_a_time_is_a_span_before_now_or_a_date_in_the_user_s_zone(
    text: str, moment: datetime
) -> None:
    assert read_since(text, NOON) == moment


@pytest.mark.parametrize("text", ["yesterday", "", "9999-99-99", "-2h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(CliError):
        read_since(text, NOON)
