"""Queues kept as files, against a real server: plan, apply, history, overrides, and what goes wrong."""

import json
import shutil
from pathlib import Path

import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.server import PandawnServer
from tests.fixtures.tier3 import Tier3

CHANGES = 5
USAGE = 2
REFUSED = 3


@pytest.fixture
def pandawn(embedded_server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    return Pandawn(embedded_server.address, tmp_path, run_cli)


def write(root: Path, file: str, text: str) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_queues(root: Path, count: int, status: str = "online") -> None:
    for number in range(count):
        write(root, f"queues/Q{number}.yaml", f"queue: Q{number}\nstatus: {status}\nsite: S\n")


def apply(pandawn: Pandawn, root: Path, *arguments: str) -> str:
    return pandawn.ok("queues", "apply", str(root), "-m", "because", *arguments)


def shown(pandawn: Pandawn, queue: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(pandawn.ok("queues", "show", queue, "--json"))
    return found


def test_files_are_planned_applied_exported_and_then_there_is_nothing_to_do(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    root = tmp_path / "conf"
    write(root, "clouds/C.yaml", "cloud: C\nlocality_wait: 30 s\n")
    write(root, "sites/S.yaml", "site: S\ncloud: C\ncores: 4\n")
    mine = write(root, "queues/Q.yaml", "# ours\nqueue: Q\nsite: S   # here\nmaxtime: 7200\n")
    plan = pandawn.run("queues", "plan", str(root))
    assert plan.status == CHANGES
    assert "+ queue Q" in plan.out
    assert "max_wall_time: 2 h" in plan.out
    assert "queues/Q.yaml:4: maxtime is called max_wall_time now: 2 h" in plan.err
    assert "+ site S" in apply(pandawn, root)
    queue = shown(pandawn, "Q")
    assert (queue["cores"], queue["locality_wait"], queue["max_wall_time"]) == (4, "30s", "7200s")
    before = mine.read_text()
    assert pandawn.run("queues", "plan", str(root)).status == 0
    pandawn.ok("queues", "export", str(root))
    assert mine.read_text() == before
    # Another copy, made from nothing, says the same.
    pandawn.ok("queues", "export", str(tmp_path / "copy"))
    again = pandawn.run("queues", "plan", str(tmp_path / "copy"))
    assert (again.status, again.out) == (0, "")
    pandawn.ok("queues", "set", "Q", "max_wall_time=3h", "comment=busy: see #7", "-m", "more")
    pandawn.ok("queues", "export", str(root))
    assert mine.read_text() == (
        '# ours\nqueue: Q\nsite: S   # here\nmax_wall_time: 3 h\ncomment: "busy: see #7"\n'
    )
    assert pandawn.run("queues", "plan", str(root)).status == 0


def test_the_origin_of_each_value_is_shown_with_author_and_expiry(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    write(tmp_path, "c/clouds/C.yaml", "cloud: C\nlocality_wait: 30 s\n")
    write(tmp_path, "c/sites/S.yaml", "site: S\ncloud: C\ncores: 4\n")
    write(tmp_path, "c/queues/Q.yaml", "queue: Q\nsite: S\nuse_pcache: false\n")
    apply(pandawn, tmp_path / "c")
    pandawn.ok("queues", "override", "Q", "status=offline", "--for", "2h", "-m", "power cut")
    table = pandawn.ok("queues", "show", "Q", "--origin", COLUMNS="200")
    lines = {line.split()[0]: " ".join(line.split()) for line in table.splitlines()}
    assert lines["locality_wait"].startswith("locality_wait 30 s cloud C local")
    assert lines["cores"].startswith("cores 4 site S local")
    assert lines["use_pcache"].startswith("use_pcache false queue local")
    assert lines["status"].startswith("status offline override local")
    assert lines["status"].endswith("power cut")
    assert lines["priority_band"] == "priority_band 100 default"
    origins = json.loads(pandawn.ok("queues", "show", "Q", "--origin", "--json"))["origins"]
    (status,) = [origin for origin in origins if origin["parameter"] == "status"]
    assert (status["level"], status["message"]) == ("LEVEL_OVERRIDE", "power cut")
    assert status["expire_time"]
    assert "power cut" in pandawn.ok("queues", "overrides")
    # What an override says is nobody's document: no file has it.
    pandawn.ok("queues", "export", str(tmp_path / "c"))
    assert "status" not in (tmp_path / "c/queues/Q.yaml").read_text()
    said = pandawn.run("queues", "override", "Q", "--clear")
    assert "1 override cleared" in said.err
    assert "no such override" in pandawn.run("queues", "override", "Q", "--clear").err
    assert shown(pandawn, "Q")["status"] == "QUEUE_STATUS_ONLINE"


def test_every_error_is_listed_with_file_and_line_and_nothing_is_changed(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    root = tmp_path / "conf"
    write(root, "queues/A.yaml", "queue: A\ncores: many\ncorse: 1\n")
    write(root, "queues/B.yaml", "queue: B\nstatus: [\n")
    # Only the server knows that these do not go together.
    write(root, "queues/C.yaml", "queue: C\nsite: S\n# why\nstorage_root: nonsense\n")
    write(root, "queues/D.yaml", "queue: D\n")
    plan = pandawn.run("queues", "plan", str(root))
    assert plan.status == USAGE
    for place in (
        "queues/A.yaml:2: ",
        "queues/A.yaml:3: ",
        "queues/B.yaml:3: ",
        "queues/C.yaml:4: ",
    ):
        assert place in plan.err, plan.err
    assert "+ queue D" in plan.out
    assert "4 errors in 3 files" in plan.err
    machine = pandawn.run("queues", "plan", str(root), "--json")
    assert machine.status == USAGE
    assert [problem["line"] for problem in json.loads(machine.out)["problems"]] == [2, 3, 3, 4]
    assert pandawn.run("queues", "apply", str(root), "-m", "x").status == USAGE
    assert json.loads(pandawn.ok("queues", "list", "--json")) == []


def test_a_file_that_is_missing_deletes_its_queue_only_when_told(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    root = tmp_path / "conf"
    write_queues(root, 5)
    apply(pandawn, root)
    (root / "queues/Q4.yaml").unlink()
    plan = pandawn.run("queues", "plan", str(root))
    assert plan.status == 0
    assert "without a file, and kept: 1 document (queue Q4); --delete deletes them" in plan.err
    assert "- queue Q4" in apply(pandawn, root, "--delete")
    assert len(json.loads(pandawn.ok("queues", "list", "--json"))) == 4


def test_a_site_keeps_files_of_its_own_queues_only(pandawn: Pandawn, tmp_path: Path) -> None:
    pandawn.ok("queues", "set", "--create", "A1", "site=A")
    pandawn.ok("queues", "set", "--create", "A2", "site=A")
    pandawn.ok("queues", "set", "--create", "B", "cores=2")
    pandawn.ok("queues", "set", "A", "--level", "site", "cores=4")
    root = tmp_path / "conf"
    pandawn.ok("queues", "export", str(root), "--of-site", "A")
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*.yaml"))
    assert files == ["queues/A1.yaml", "queues/A2.yaml", "sites/A.yaml"]
    (root / "queues/A2.yaml").unlink()
    plan = pandawn.run("queues", "plan", str(root), "--of-site", "A", "--delete")
    assert plan.out.split() == ["-", "queue", "A2", "site:", "A"]
    apply(pandawn, root, "--of-site", "A", "--delete", "--allow-offline", "1")
    assert {queue["name"] for queue in json.loads(pandawn.ok("queues", "list", "--json"))} == {
        "A1",
        "B",
    }


def test_more_than_a_quarter_goes_offline_only_with_the_number(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    root = tmp_path / "conf"
    write_queues(root, 8)
    apply(pandawn, root)
    write_queues(root, 3, "offline")
    plan = pandawn.run("queues", "plan", str(root))
    assert plan.status == CHANGES
    assert "apply them with --allow-offline 3" in plan.err
    for arguments in ((), ("--allow-offline", "2")):
        refused = pandawn.run("queues", "apply", str(root), "-m", "x", *arguments)
        assert refused.status == REFUSED
        assert "TOO_MANY_QUEUES" in refused.err
        assert "--allow-offline 3" in refused.err
    assert shown(pandawn, "Q0")["status"] == "QUEUE_STATUS_ONLINE"
    apply(pandawn, root, "--allow-offline", "3")
    assert shown(pandawn, "Q0")["status"] == "QUEUE_STATUS_OFFLINE"


def test_history_tells_who_and_why_and_leads_back(pandawn: Pandawn, tmp_path: Path) -> None:
    root = tmp_path / "conf"
    write_queues(root, 2)
    apply(pandawn, root)
    first = json.loads(pandawn.ok("queues", "history", "--json"))[0]["revision"]
    pandawn.ok("queues", "set", "Q0", "cores=8", "-m", "bigger slots")
    pandawn.ok("queues", "set", "S", "cores=2", "--level", "site", "-m", "for all")
    rows = json.loads(pandawn.ok("queues", "history", "--json"))
    assert [row["message"] for row in rows[:3]] == ["for all", "bigger slots", "because"]
    assert all(row["author"] and row["tool"].startswith("pandawn ") for row in rows[:3])
    mine = json.loads(pandawn.ok("queues", "history", "Q0", "--json"))
    assert [row["message"] for row in mine] == ["bigger slots", "because"]
    sites = json.loads(pandawn.ok("queues", "history", "S", "--level", "site", "--json"))
    assert [row["message"] for row in sites] == ["for all"]
    difference = pandawn.ok("queues", "diff", str(first))
    assert "~ queue Q0\n    cores: (unset) -> 8" in difference
    assert "+ site S" in difference
    assert "cores: 8 -> (unset)" in pandawn.ok("queues", "diff", str(first + 1), str(first))
    assert "- site S" in pandawn.ok("queues", "rollback", str(first), "--dry-run")
    assert shown(pandawn, "Q0")["cores"] == 8
    pandawn.ok("queues", "rollback", str(first), "-m", "it did not help")
    assert shown(pandawn, "Q0")["cores"] == 1
    assert pandawn.run("queues", "plan", str(root)).status == 0
    assert "nothing to do" in pandawn.run("queues", "rollback", str(first)).err
    refused = pandawn.run("queues", "rollback", "999")
    assert (refused.status, "REVISION_NOT_FOUND" in refused.err) == (REFUSED, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("apply", "conf"), "give a reason with -m TEXT"),
        (("apply", "./conf", "-m", "x", "--cores", "2"), "options set parameters of one queue"),
        (("apply", "./nope", "-m", "x"), "nope is not a directory"),
        (("apply", "nope", "--delete"), "nope is not a directory"),
        (("apply", "empty/", "-m", "x"), "none of queues/, sites/ and clouds/"),
        (("plan", "nope"), "nope is not a directory"),
        (("plan", "conf/queues/Q0.yaml"), "is not a directory"),
        (("set", "Q0", "corse=1"), "did you mean cores?"),
        (("set", "Q0", "cores"), "write PARAMETER=VALUE"),
        (("set", "Q0", "cores=1", "cores=2"), "given twice"),
        (("set", "Q0", "cores=1", "--reset", "cores"), "set by the same command"),
        (("set", "Q0", "--reset", "colour"), "a queue has no such parameter"),
        (("set", "Q0", "max_input_bytes=14336"), "it has no unit"),
        (("set", "S", "--level", "site"), "give parameters to set"),
        (("override", "Q0"), "give what to set"),
        (("override", "Q0", "status=offline"), "give the duration"),
        (("override", "Q0", "status=offline", "--for", "2h"), "give a reason"),
        (("override", "Q0", "--clear", "--for", "2h"), "--for sets an override"),
        (("override", "Q0", "--clear", "statsu"), "did you mean status?"),
    ],
)
def test_misuse_is_refused_with_words_before_anything_is_sent(
    shared_server: PandawnServer,
    tmp_path: Path,
    run_cli: RunCli,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    pandawn = Pandawn(shared_server.address, tmp_path, run_cli)
    write_queues(tmp_path / "conf", 1)
    (tmp_path / "empty").mkdir()
    done = pandawn.run("queues", *arguments)
    assert done.status == USAGE, done
    assert said in " ".join(done.err.split())
    assert json.loads(pandawn.ok("queues", "history", "--json")) == []


def test_a_change_that_others_made_meanwhile_is_not_run_over(
    pandawn: Pandawn,
) -> None:
    pandawn.ok("queues", "set", "--create", "Q", "cores=2")
    etag = str(shown(pandawn, "Q")["etag"])
    pandawn.ok("queues", "set", "Q", "cores=3")
    late = pandawn.run("queues", "set", "Q", "cores=4", "--etag", etag)
    assert (late.status, "STALE_ETAG" in late.err) == (REFUSED, True)
    assert shown(pandawn, "Q")["cores"] == 3


def test_a_queue_with_jobs_is_not_deleted(
    own_tier3: Tier3, tmp_path: Path, run_cli: RunCli
) -> None:
    pandawn = Pandawn(own_tier3.server.address, tmp_path, run_cli)
    own_tier3.submit("true")
    root = tmp_path / "conf"
    write_queues(root, 8)
    apply(pandawn, root)
    plan = pandawn.run("queues", "plan", str(root), "--delete")
    assert plan.status == CHANGES
    assert f"queue {own_tier3.queue} has jobs or pilots" in plan.err
    refused = pandawn.run("queues", "apply", str(root), "-m", "x", "--delete")
    assert (refused.status, "QUEUE_IN_USE" in refused.err) == (REFUSED, True)


def test_export_leaves_files_with_errors_and_removes_gone_ones_when_told(
    pandawn: Pandawn, tmp_path: Path
) -> None:
    root = tmp_path / "conf"
    write_queues(root, 2)
    apply(pandawn, root)
    broken = write(root, "queues/Q1.yaml", "queue: Q1\ncores: x\n")
    gone = write(root, "queues/OLD.yaml", "queue: OLD\n")
    done = pandawn.run("queues", "export", str(root))
    assert done.status == USAGE
    assert "queues/Q1.yaml:2" in done.err
    assert "queues/OLD.yaml; --prune removes these files" in done.err
    assert broken.read_text() == "queue: Q1\ncores: x\n"
    shutil.copy(root / "queues/Q0.yaml", broken)
    broken.write_text("queue: Q1\n")
    assert "removed" in pandawn.ok("queues", "export", str(root), "--prune")
    assert not gone.exists()


def test_check_only_needs_no_server(tmp_path: Path, run_cli: RunCli) -> None:
    pandawn = Pandawn("127.0.0.1:1", tmp_path, run_cli)
    write_queues(tmp_path / "conf", 2)
    assert "no errors" in pandawn.run("queues", "plan", "conf", "--check-only").err
    write(tmp_path, "conf/queues/Q2.yaml", "queue: Q3\n")
    assert pandawn.run("queues", "plan", "conf", "--check-only").status == USAGE
