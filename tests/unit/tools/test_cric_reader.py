"""One queue of CRIC, with something wrong in it: said per field, and never more lost than need be."""

from collections.abc import Mapping

import pytest

from pandawn_tools.cric.document import DocumentError, read_list
from pandawn_tools.cric.findings import Finding, Outcome
from pandawn_tools.cric.reader import CricQueue, read_queue
from pandawn_tools.queuefiles.parameters import parameters
from tests.fixtures.cric import cric_bytes, make_cric_queue

WORDS = parameters()["status"].words


def read(without: str = "", /, **overrides: object) -> CricQueue:
    cric = {**make_cric_queue("Q", "S"), "status": "online", **overrides}
    cric.pop(without, None)
    return read_queue("Q", cric)  # type: ignore[arg-type]


def finding(queue: CricQueue, field: str) -> Finding:
    (found,) = [item for item in queue.findings if item.field == field]
    return found


def test_a_sound_queue_has_nothing_wrong_or_unknown() -> None:
    queue = read()
    odd = [
        f
        for f in queue.findings
        if f.outcome not in {*(Outcome.MAPPED, Outcome.IGNORED, Outcome.UNSET)}
    ]
    assert odd == []
    assert queue.is_usable
    assert queue.says["site"] == "S"


@pytest.mark.parametrize(
    ("overrides", "field", "note"),
    [
        ({"maxtime": "long"}, "maxtime", "it is not a duration"),
        ({"corecount": 10**9}, "corecount", "it is out of bounds; from 1 to 100,000"),
        ({"acopytools": ["rucio"]}, "acopytools.pr", "element 1 is text instead of an object"),
        ({"astorages": "X"}, "astorages.pw", "text instead of an object"),
        ({"queues": [{"ce_endpoint": 7}]}, "queues.ce_endpoint", "element 1 is a number"),
        ({"cloud": "\ud800"}, "cloud", "half of a character"),
        ({"tier_level": "two"}, "tier_level", "text instead of a number"),
        ({"maxrss_data": 5}, "maxrss_data", "a number instead of an object"),
        (
            {"maxtime_data": {"maxtime": 1}},
            "maxtime_data",
            "its value differs from that of maxtime",
        ),
    ],
)
def test_a_wrong_field_leaves_its_parameter_as_it_is(
    overrides: Mapping[str, object], field: str, note: str
) -> None:
    queue = read(**overrides)
    assert queue.is_usable
    wrong = [f for f in queue.findings if f.field == field and f.outcome is Outcome.WRONG]
    assert any(note in item.note for item in wrong)
    assert all(item.parameter not in queue.says for item in wrong if item.parameter)


@pytest.mark.parametrize(
    "overrides",
    [
        *({"status": value} for value in ("", None, 7, "onlin", ["online"])),
        *({"state": value} for value in ("", None, 7)),
        *({"atlas_site": value} for value in (["S"], 5)),
        {"name": "R"},
    ],
)
def test_a_queue_whose_vital_fields_are_wrong_is_left_as_it_is(
    overrides: dict[str, object],
) -> None:
    assert not read(**overrides).is_usable


@pytest.mark.parametrize("field", ["status", "atlas_site"])
def test_a_queue_without_a_vital_field_is_left_as_it_is(field: str) -> None:
    queue = read(field)
    assert not queue.is_usable
    assert finding(queue, field).note == "missing"


@pytest.mark.parametrize("field", ["cloud", "maxtime", "corecount", "maxwdir"])
def test_a_missing_field_is_said_and_leaves_its_parameter_as_it_is(field: str) -> None:
    queue = read(field)
    said = finding(queue, field)
    assert (said.outcome, said.note) == (Outcome.WRONG, "missing")
    assert said.parameter not in queue.says


def test_a_field_that_says_not_set_unsets_its_parameter() -> None:
    queue = read(maxtime=0, maxrss=None, cloud="")
    assert {name: queue.says[name] for name in ("max_wall_time", "memory_bytes", "cloud")} == {
        "max_wall_time": None,
        "memory_bytes": None,
        "cloud": None,
    }


def test_a_field_that_nobody_knows_is_named_with_what_it_may_have_meant() -> None:
    said = finding(read(maxtimes=5), "maxtimes")
    assert (said.outcome, said.note) == (Outcome.UNKNOWN, "a number; did you mean maxtime?")


@pytest.mark.parametrize("state", ["DISABLED", "inactive"])
def test_a_queue_that_is_not_active_is_offline_whatever_its_status(state: str) -> None:
    assert read(state=state).says["status"] == WORDS["offline"]


@pytest.mark.parametrize("status", list(WORDS))
def test_every_status_is_known(status: str) -> None:
    assert read(status=status.upper()).says["status"] == WORDS[status]


def test_the_scope_of_a_value_is_told_and_is_no_unknown_field() -> None:
    queue = read(maxrss=2000, maxrss_data={"maxrss": 2000, "scope": "rcsite"})
    assert finding(queue, "maxrss").note == "2000 MB -> 2000 MiB (from rcsite)"
    assert "maxrss_data" not in {item.field for item in queue.findings}


def test_a_value_that_only_its_provenance_has_counts() -> None:
    queue = read("maxtime", maxtime_data={"maxtime": 3600, "scope": "local"})
    assert finding(queue, "maxtime").note == "3600 s -> 1 h (from local)"


def test_the_name_to_believe_first_wins_and_a_broken_one_is_not_passed_over() -> None:
    assert read(gstat="T").says["site"] == "S"
    assert read(memory=4000, maxrss=2000).says["memory_bytes"] == 2000 * 1024**2
    assert read(memory=4000, maxrss=0).says["memory_bytes"] == 4000 * 1024**2
    assert "memory_bytes" not in read(memory=4000, maxrss="x").says


def test_names_that_are_no_names_are_refused() -> None:
    for name in ("", "a b", "x" * 65, "\ud800", "../etc"):
        assert not read_queue(name, make_cric_queue(name, "S")).is_usable  # type: ignore[arg-type]


def test_a_list_that_names_a_queue_or_a_field_twice_says_so() -> None:
    listed = read_list(b'{"Q": {"name": "Q", "name": "R"}, "Q": {"cloud": "A", "cloud": "B"}}')
    assert listed.duplicates == {"Q"}
    queue = read_queue("Q", listed.queues["Q"])
    notes = [f.note for f in queue.findings if f.field == "cloud" and f.outcome is Outcome.WRONG]
    assert notes == ["it occurs more than once; the last one counts"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "Expecting value: this is not JSON"),
        (b"[]", "it holds a list"),
        (b"<html>", "this is not JSON"),
        (b'{"Q": {', "line 1, column 8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number in it is too long"),
        (b'{"a": "\xff"}', "not UTF-8"),
    ],
)
def test_what_is_no_list_is_refused_as_a_whole(raw: bytes, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        read_list(raw)


def test_a_list_that_cric_might_send_is_read() -> None:
    assert list(read_list(cric_bytes({"Q": {}})).queues) == ["Q"]
