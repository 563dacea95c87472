"""Queues of CRIC, up to a thousand, imported into a real server on each pair of backends."""

import json
from pathlib import Path
from typing import TypedDict

import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.cric import CricObject, cric_bytes, make_cric_list, make_cric_queue
from tests.fixtures.server import PandawnServer
from tests.fixtures.web import WebSite

REFUSED = 3
USAGE = 2
UNREACHABLE = 4


@pytest.fixture
def embedded(embedded_server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    return Pandawn(embedded_server.address, tmp_path, run_cli)


def write_list(root: Path, queues: dict[str, CricObject]) -> Path:
    path = root / "cric.json"
    path.write_bytes(cric_bytes(queues))
    return path


class Wrong(TypedDict):
    """One thing wrong, as a report has it."""

    queue: str
    field: str
    note: str
    is_fatal: bool


class Report(TypedDict):
    """What of a report is looked at here."""

    queues: int
    wrong: list[Wrong]
    left_as_they_are: list[str]
    vanished: list[str]
    revision: int
    diffs: list[object]


def imported(pandawn: Pandawn, path: Path, *arguments: str) -> Report:
    report: Report = json.loads(
        pandawn.ok("queues", "import-cric", str(path), "--json", *arguments)
    )
    return report


def names(pandawn: Pandawn) -> set[str]:
    return {queue["name"] for queue in json.loads(pandawn.ok("queues", "list", "--json"))}


def small_list(count: int = 8) -> dict[str, CricObject]:
    return {f"Q{n}": {**make_cric_queue(f"Q{n}", "S"), "status": "online"} for n in range(count)}


@pytest.mark.timeout(600)
def test_up_to_a_thousand_queues_are_imported_compared_changed_and_rolled_back(
    server: PandawnServer, tmp_path: Path, run_cli: RunCli, request: pytest.FixtureRequest
) -> None:
    pandawn = Pandawn(server.address, tmp_path, run_cli)
    # The size is the same work for the command; of the engines, sites that large have this one.
    cric = make_cric_list(1000 if "postgresql" in request.node.name else 200)
    path = write_list(tmp_path, cric)
    report = imported(pandawn, path)
    left = set(report["left_as_they_are"])
    assert 0 < len(left) < 50
    assert names(pandawn) == set(cric) - left
    first = report["revision"]
    # Whatever was wrong is said by queue and field.
    assert {item["queue"] for item in report["wrong"] if item["is_fatal"]} == left
    # Nothing has changed: nothing is sent, and no revision is made.
    assert "nothing has changed" in pandawn.run("queues", "import-cric", str(path)).err
    again = imported(pandawn, path, "--fresh")
    assert (again["revision"], again["diffs"]) == (first, [])
    # The files of it say the same.
    pandawn.ok("queues", "export", "conf")
    assert pandawn.run("queues", "plan", "conf").status == 0
    # A tenth gets other limits, a queue goes, one comes.
    good = sorted(set(cric) - left)
    for name in good[:100]:
        cric[name]["maxrss"] = 12345
        cric[name].pop("maxrss_data")
    del cric[good[-1]]
    cric["NEW"] = {**make_cric_queue("NEW", "S"), "status": "online"}
    write_list(tmp_path, cric)
    dry = imported(pandawn, path, "--dry-run")
    assert len(dry["diffs"]) == 101
    assert dry["vanished"] == [good[-1]]
    assert "NEW" not in names(pandawn)
    changed = imported(pandawn, path)
    assert len(changed["diffs"]) == 101
    assert "memory_bytes:" in pandawn.ok("queues", "diff", str(first))
    assert {"NEW", good[-1]} <= names(pandawn)
    pandawn.ok("queues", "rollback", str(first), "-m", "too much")
    assert names(pandawn) == set(cric) - left - {"NEW"} | {good[-1]}
    assert pandawn.run("queues", "plan", "conf").status == 0


def test_what_cric_does_not_speak_of_is_the_site_s(embedded: Pandawn, tmp_path: Path) -> None:
    cric = small_list()
    path = write_list(tmp_path, cric)
    imported(embedded, path)
    embedded.ok("queues", "set", "Q0", "storage_root=file:///data", "locality_wait=30s", "cores=3")
    cric["Q0"]["cloud"] = ["broken"]
    cric["Q1"]["status"] = "nonsense"
    cric["Q1"]["corecount"] = 77
    write_list(tmp_path, cric)
    report = imported(embedded, path)
    assert report["left_as_they_are"] == ["Q1"]
    queue = json.loads(embedded.ok("queues", "show", "Q0", "--json"))
    assert (queue["storage_root"], queue["locality_wait"]) == ("file:///data", "30s")
    # CRIC decides what it speaks of, and a field that is wrong changes nothing.
    assert queue["cores"] == cric["Q0"]["corecount"]
    assert queue["cloud"]
    assert json.loads(embedded.ok("queues", "show", "Q1", "--json"))["cores"] != 77


def test_queues_that_vanish_are_kept_unless_told_and_never_too_many(
    embedded: Pandawn, tmp_path: Path
) -> None:
    cric = small_list()
    path = write_list(tmp_path, cric)
    imported(embedded, path)
    for name in ("Q0", "Q1", "Q2"):
        del cric[name]
    write_list(tmp_path, cric)
    assert imported(embedded, path)["vanished"] == ["Q0", "Q1", "Q2"]
    assert len(names(embedded)) == 8
    for arguments in (("--vanished", "offline"), ("--vanished", "delete")):
        refused = embedded.run("queues", "import-cric", str(path), *arguments)
        assert (refused.status, "TOO_MANY_QUEUES" in refused.err) == (REFUSED, True)
    imported(embedded, path, "--vanished", "offline", "--allow-offline", "3")
    queue = json.loads(embedded.ok("queues", "show", "Q0", "--json"))
    assert queue["status"] == "QUEUE_STATUS_OFFLINE"
    imported(embedded, path, "--vanished", "delete", "--allow-offline", "3")
    assert len(names(embedded)) == 5


def test_only_queues_that_are_meant_are_touched(embedded: Pandawn, tmp_path: Path) -> None:
    embedded.ok("queues", "set", "--create", "OURS", "cores=2")
    path = write_list(tmp_path, small_list())
    report = imported(embedded, path, "--only", "Q[0-2]", "--vanished", "delete")
    assert report["queues"] == 3
    assert names(embedded) == {"OURS", "Q0", "Q1", "Q2"}


def test_somebody_s_change_is_seen_although_the_list_is_the_same(
    embedded: Pandawn, tmp_path: Path
) -> None:
    path = write_list(tmp_path, small_list())
    imported(embedded, path)
    embedded.ok("queues", "set", "Q0", "cores=77")
    assert len(imported(embedded, path)["diffs"]) == 1


def test_a_list_on_the_web_is_fetched_again_only_when_it_is_new(
    embedded: Pandawn, web_site: WebSite
) -> None:
    web_site.body = cric_bytes(small_list())
    web_site.headers = {"ETag": '"v1"'}
    run = ("queues", "import-cric", web_site.url)
    assert "8 queues created" in embedded.run(*run).err
    assert "nothing has changed" in embedded.run(*run).err
    assert [asked.get("If-None-Match") for asked in web_site.asked] == [None, '"v1"']
    web_site.headers = {"ETag": '"v2"'}
    web_site.body = cric_bytes(small_list(9))
    assert "1 queue created" in embedded.run(*run).err


def test_what_the_server_refuses_is_wrong_in_its_field_only(
    embedded: Pandawn, tmp_path: Path
) -> None:
    cric = small_list()
    # A variable cannot be called so, which this side does not know.
    cric["Q0"]["environ"] = "1A=b"
    cric["Q1"]["atlas_site"] = "no such/site name"
    report = imported(embedded, write_list(tmp_path, cric))
    said = {(item["queue"], item["field"]): item["note"] for item in report["wrong"]}
    assert said["Q1", "site"].startswith("the server: ")
    assert report["left_as_they_are"] == ["Q1"]
    assert names(embedded) == set(cric) - {"Q1"}


def test_a_dry_run_needs_no_server(tmp_path: Path, run_cli: RunCli) -> None:
    path = write_list(tmp_path, small_list())
    done = run_cli("queues", "import-cric", str(path), "--dry-run")
    assert done.status == 0
    assert "no server was named to compare with" in done.err
    assert "timefloor" in done.out
    # One that is named and does not answer is no reason to keep silent about the list.
    away = run_cli("queues", "import-cric", str(path), "--dry-run", "--server", "127.0.0.1:1")
    assert away.status == UNREACHABLE
    assert "timefloor" in away.out
    assert "they could not be compared" in away.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a list of queues"),
        ("[]", "it holds a list"),
        ("{}", "lists no queue"),
        ("<html>Please log in</html>", "this is not JSON"),
    ],
)
def test_what_is_no_list_changes_nothing(
    embedded: Pandawn, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    done = embedded.run("queues", "import-cric", str(path), "--vanished", "delete")
    assert done.status == USAGE
    assert said in done.err
