"""`pandawn cache` against a real server: what operators do with the catalog.

One server serves all tests, each at a site of its own: to start one takes longer than they do.
"""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.server import PandawnServer, running_servers

NODE = "wn07.example.org"
AT = ("--site", "T3")
AT_TASK = ("--site", "T3-TASK")
AT_MISTAKES = ("--site", "T3-MISTAKES")


@pytest.fixture(scope="module")
def server() -> Iterator[PandawnServer]:
    with running_servers() as start:
        yield start()


@pytest.fixture
def pandawn(server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    return Pandawn(server.address, tmp_path, run_cli)


def listed(pandawn: Pandawn, node: str = NODE, *more: str) -> list[str]:
    rows = json.loads(pandawn.ok("cache", "list", node, *AT, *more, "--json"))
    return [row["lfn"] for row in rows]


def write_list(root: Path, *lines: str) -> str:
    (root / "files.list").write_text("\n".join(lines) + "\n")
    return "files.list"


def test_operators_populate_pin_cover_and_flush(pandawn: Pandawn, tmp_path: Path) -> None:
    guid = "0f9e8d7c-0000-4000-8000-000000000001"
    files = write_list(
        tmp_path, "# placed by hand", "a.root 1GiB", f"b.root 1GiB - {guid}", "c.root 2GiB mc"
    )
    done = pandawn.run("cache", "populate", *AT, "--node", NODE, "--list", files)
    assert done.status == 0, done
    assert f"3 files, 4.0 GiB, added to the catalog for {NODE} at T3" in done.out
    assert "is new to the catalog" in done.err
    assert listed(pandawn) == ["a.root", "b.root", "c.root"]
    located = json.loads(pandawn.ok("cache", "locate", guid, "--guid", *AT, "--json"))
    assert (located[0]["nodes"], located[0]["size_bytes"]) == ([NODE], 2**30)

    # The same again is no harm; pinned on a second node.
    more = ("cache", "populate", *AT, "--node", "WN08.example.org", "--list", files, "--pin")
    assert json.loads(pandawn.ok(*more, "--json")) == {
        "site": "T3",
        "node": "wn08.example.org",
        "file_count": 3,
        "total_bytes": 4 * 2**30,
        "pinned": True,
    }
    assert "0 files newly pinned" in pandawn.ok(
        "cache", "pin", "wn08.example.org", *AT, "--list", files
    )
    assert "1 file newly pinned" in pandawn.ok("cache", "pin", NODE, *AT, "--lfn", "d.root=1GiB")
    assert listed(pandawn, NODE, "--pinned") == ["d.root"]
    assert "pinned" in pandawn.ok("cache", "list", NODE, *AT)

    coverage = json.loads(pandawn.ok("cache", "coverage", "a.root", "d.root", "zz", *AT, "--json"))
    assert (coverage["file_count"], coverage["total_bytes"]) == (3, 2 * 2**30)
    assert coverage["copies"] == [
        {"node_count": 0, "file_count": 1, "total_bytes": 0},
        {"node_count": 1, "file_count": 1, "total_bytes": 2**30},
        {"node_count": 2, "file_count": 1, "total_bytes": 2**30},
    ]
    assert coverage["nodes"] == [
        {"node": NODE, "file_count": 2, "total_bytes": 2 * 2**30},
        {"node": "wn08.example.org", "file_count": 1, "total_bytes": 2**30},
    ]
    shown = pandawn.ok("cache", "coverage", "--list", files, *AT)
    assert "3 files, 4.0 GiB, at T3" in shown
    assert "2 nodes" in shown

    assert "3 files pinned" in pandawn.ok("nodes", *AT)

    # A flush is about the cache; pins go when they are taken away.
    assert "3 files" in pandawn.ok("cache", "flush", NODE, *AT)
    assert listed(pandawn) == ["d.root"]
    pins = json.loads(pandawn.ok("cache", "pins", *AT, "--json"))
    assert [(row["node"], row["file_count"], row["believed"]) for row in pins] == [
        (NODE, 1, True),
        ("wn08.example.org", 3, True),
    ]
    unpinned = pandawn.run("cache", "unpin", "wn08.example.org", "a.root", "zz", *AT)
    assert "1 file no longer pinned" in unpinned.out
    assert "2 still" in unpinned.out
    assert "other files were not pinned" in unpinned.err
    assert "1 file no longer" in pandawn.ok("cache", "unpin", NODE, "--all", *AT)
    assert "wn08" in pandawn.ok("cache", "pins")
    assert listed(pandawn) == []


def test_a_task_s_inputs_are_covered_at_its_own_site(pandawn: Pandawn, tmp_path: Path) -> None:
    for name in ("a.root", "b.root"):
        (tmp_path / name).write_text("x" * 100)
    pandawn.ok("queues", "apply", "Q", *AT_TASK, "--storage-root", f"file://{tmp_path}")
    task = json.loads(
        pandawn.ok(
            *("submit", "--json", "--queue", "Q", "a.root", "b.root"), "--", "sh", "-c", "true"
        )
    )["task_id"]
    content = f"sha256:{sha256(b'x' * 100).hexdigest()}"
    pandawn.ok("cache", "pin", NODE, *AT_TASK, "--lfn", f"a.root=100,{content}")
    # Which file of that name it is nobody says; and another one.
    unknown = pandawn.run("cache", "pin", "wn09.example.org", *AT_TASK, "--lfn", "b.root=100")
    assert "1 file without a version" in unknown.err
    pandawn.ok("cache", "pin", "wn10.example.org", *AT_TASK, "--lfn", f"b.root=99,{content}")
    coverage = json.loads(pandawn.ok("cache", "coverage", "--task", str(task), "--json"))
    assert coverage["site"] == "T3-TASK"
    assert [(row["node_count"], row["total_bytes"]) for row in coverage["copies"]] == [
        (0, 100),
        (1, 100),
    ]
    assert [row["node"] for row in coverage["nodes"]] == [NODE]


def test_mistakes_are_told_with_what_to_do(pandawn: Pandawn, tmp_path: Path) -> None:
    bad_names = write_list(tmp_path, "fine 1", "/abs 1", "b" * 300 + " 1")
    populate = ("cache", "populate", *AT_MISTAKES, "--node", NODE, "--list")
    refused = pandawn.run(*populate, bad_names)
    assert refused.status == 3
    assert "files.list:2: " in refused.err
    assert "files.list:3: " in refused.err
    assert pandawn.run("cache", "list", NODE, *AT_MISTAKES).status == 3, "nothing was added"

    (tmp_path / "empty.list").write_text("")
    (tmp_path / "bad.list").write_text("a 1\nb\n")
    for arguments, status, told in (
        ((*populate, "empty.list"), 2, "EMPTY_FILE_LIST"),
        ((*populate, "bad.list"), 2, "bad.list:2: has 1 column"),
        ((*populate, "no.list"), 2, "FILE_MISSING"),
        (("cache", "populate", "--node", "nowhere", "--list", "bad.list"), 2, "BAD_FILE_LIST"),
        (("cache", "pin", NODE, *AT_MISTAKES), 2, "EMPTY_FILE_LIST"),
        (("cache", "pin", "no such", *AT_MISTAKES, "--lfn", "a=1"), 3, "INVALID_REQUEST"),
        (("cache", "unpin", NODE, *AT_MISTAKES), 2, "EMPTY_FILE_LIST"),
        (("cache", "unpin", NODE, "a", *AT_MISTAKES), 3, "NODE_NOT_FOUND"),
        (("cache", "unpin", NODE, "a", "--all", *AT_MISTAKES), 2, "INVALID_OPTION"),
        (("cache", "coverage", *AT_MISTAKES), 2, "EMPTY_FILE_LIST"),
        (("cache", "coverage", "a"), 2, "SITE_UNCLEAR"),
        (("cache", "coverage", "a", *AT_MISTAKES), 3, "SITE_NOT_FOUND"),
        (("cache", "coverage", "--task", "99"), 3, "TASK_NOT_FOUND"),
    ):
        said = pandawn.run(*arguments)
        assert (said.status, told in said.err) == (status, True), (arguments, said)
    assert "No files are pinned" in pandawn.run("cache", "pins", *AT_MISTAKES).err
