"""A site administrator keeps a queue's list from the command line, and a user feels it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.server import PandawnServer

QUEUE = "ANALY_T3"


@pytest.fixture
def pandawn(server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    cli = Pandawn(server.address, tmp_path, run_cli)
    cli.ok("queues", "apply", QUEUE, "--storage-root", str(tmp_path / "storage"))
    return cli


def submit(pandawn: Pandawn, user: str, jobs: int = 1, *more: str) -> tuple[int, str]:
    said = pandawn.run(
        *("submit", "--jobs", str(jobs), "--user", user, "--queue", QUEUE, *more, "--", "true")
    )
    return said.status, said.err


def test_a_list_is_kept_shown_and_obeyed(pandawn: Pandawn) -> None:
    said = pandawn.ok(
        *("access", "grant", "ann", QUEUE, "--max-running", "2", "--priority", "50"),
        *("--for", "7d", "-m", "summer student"),
    )
    assert said.startswith(f"{QUEUE}: allow ann (running 2, priority +50, until ")
    pandawn.ok("access", "grant", "group:locals", QUEUE, "--max-waiting", "0")
    pandawn.ok("access", "grant", "dn:/DC=org/DC=example/*", QUEUE)
    pandawn.ok("access", "grant", "token-group:/atlas", QUEUE, "--priority", "-10")
    pandawn.ok("access", "grant", "ben", QUEUE, "--deny", "-m", "left")
    table = pandawn.ok("access", "show", QUEUE, COLUMNS="200").splitlines()
    rows = [line.split()[:2] for line in table[1:]]
    assert rows == [
        ["dn:/DC=org/DC=example/*", "allow"],
        ["group:locals", "allow"],
        ["token-group:/atlas", "allow"],
        ["ann", "allow"],
        ["ben", "deny"],
    ]
    shown = json.loads(pandawn.ok("access", "show", QUEUE, "--json"))
    assert [entry["message"] for entry in shown][-2:] == ["summer student", "left"]
    assert {entry["granted_by"] for entry in shown} == {"local"}

    assert submit(pandawn, "ann", 3)[0] == 0
    states = [job["state"] for job in json.loads(pandawn.ok("jobs", "--json"))]
    assert sorted(states) == ["JOB_STATE_ACTIVATED"] * 2 + ["JOB_STATE_WAITING"]
    assert "the limit is 2" in pandawn.ok("why", "3")
    assert json.loads(pandawn.ok("tasks", "--json"))[0]["priority"] == 50
    status, err = submit(pandawn, "ben")
    assert status == 3
    assert "[QUEUE_ACCESS_DENIED]" in err
    assert "left" not in err


def test_check_explains_what_decides(pandawn: Pandawn) -> None:
    pandawn.ok("access", "grant", "group:students", QUEUE, "--max-waiting", "5")
    pandawn.ok("access", "grant", "ben", QUEUE, "--deny")
    said = pandawn.ok("access", "check", "ann", QUEUE, "-g", "students")
    assert "its list allows group students" in said
    assert "at most 5 jobs, by the entry for group:students; 0 now" in said
    assert "it is open" in pandawn.ok("access", "check", "eva", QUEUE)
    reply = json.loads(pandawn.ok("access", "check", "ben", QUEUE, "-g", "students", "--json"))
    assert (reply["allowed"], reply["ground"]) == (False, "ACCESS_GROUND_DENIED")
    assert [entry["subject"] for entry in reply["matching"]] == ["ben", "students"]


def test_what_is_revoked_holds_no_more_and_is_missed_the_second_time(pandawn: Pandawn) -> None:
    pandawn.ok("access", "grant", "everybody", QUEUE, "--max-waiting", "1")
    assert "[WAITING_LIMIT_REACHED]" in submit(pandawn, "ann", 2)[1]
    assert "removed allow everybody (waiting 1)" in pandawn.ok(
        "access", "revoke", "everybody", QUEUE
    )
    assert submit(pandawn, "ann", 2)[0] == 0
    again = pandawn.run("access", "revoke", "everybody", QUEUE)
    assert again.status == 3
    assert "[ACCESS_ENTRY_NOT_FOUND]" in again.err


def test_what_is_wrong_with_an_entry_is_said_in_the_words_of_the_command(pandawn: Pandawn) -> None:
    said = pandawn.run("access", "grant", "an na", QUEUE, "--deny", "--max-running", "1")
    assert said.status == 3
    assert "SUBJECT: 'an na' must consist of" in said.err
    said = pandawn.run("access", "grant", "anna", QUEUE, "--deny", "--max-running", "1")
    assert "--max-running: must not be set in a deny entry" in said.err
