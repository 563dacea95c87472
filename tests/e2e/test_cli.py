"""The command line against a real server and real pilots."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.fixtures.command import PROGRAM, Pandawn, RunCli
from tests.fixtures.pilots import StartPilot, wait_until
from tests.fixtures.tier3 import Tier3

READING_COMMANDS = (
    ("tasks",),
    ("jobs",),
    ("nodes",),
    ("pilots", "--ended"),
    ("queues", "list"),
    ("events", "--tail", "0"),
)


@pytest.fixture
def pandawn(tier3: Tier3, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    return Pandawn(tier3.server.address, tmp_path, run_cli)


def write_files(root: Path, *names: str) -> list[str]:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
    return list(names)


def submit(pandawn: Pandawn, *arguments: str) -> int:
    return int(json.loads(pandawn.ok("submit", "--json", *arguments))["task_id"])


def test_a_list_of_files_becomes_outputs_in_the_dataset_s_directory(
    pandawn: Pandawn, tier3: Tier3, start_pilot: StartPilot, tmp_path: Path
) -> None:
    start_pilot(tier3, node="wn-a")
    files = write_files(tmp_path, "one.txt", "two.txt", "three.txt")
    (tmp_path / "list.dat").write_text("# inputs\n\n" + "\n".join(files))
    write_files(tmp_path, "code/helper.sh")
    script = tmp_path / "count.sh"
    script.write_text('test -f helper.sh && cat "$@" > out.txt && echo "$GREETING" >> out.txt\n')
    done = pandawn.run(
        *("submit", "--inputs", "list.dat", "--files-per-job", "2", "--script", "count.sh"),
        *("--sandbox", "code", "--output", "out.txt", "--dataset", "d1", "--user", "ann"),
        *("--queue", tier3.queue, "--env", "GREETING=hello there", "--checksum", "--build"),
        "--wait",
    )
    assert done.status == 0, done.err
    assert "has finished: 3 finished" in done.out
    (directory,) = tier3.storage.glob("*/ann/d1")
    assert sorted(path.read_text() for path in directory.glob("d1.*._*.out.txt")) == [
        "content of one.txt\ncontent of two.txt\nhello there\n",
        "content of three.txt\nhello there\n",
    ]
    assert str(directory) in done.out


def test_every_reading_command_answers_in_80_columns_and_in_json(
    pandawn: Pandawn, tier3: Tier3, start_pilot: StartPilot, tmp_path: Path
) -> None:
    start_pilot(tier3, node="wn-with-a-long-name.physics.example.org")
    files = write_files(tmp_path, "a-file-with-a-rather-long-name-as-files-of-physicists-have.root")
    task_id = submit(
        pandawn, *files, "--queue", tier3.queue, "--wait", "--", "sh", "-c", "wc -c %IN"
    )
    (job,) = json.loads(pandawn.ok("jobs", "--task", str(task_id), "--json"))
    job_id, node = str(job["job_id"]), job["node"]
    commands = [
        *READING_COMMANDS,
        ("tasks", str(task_id)),
        ("jobs", "--task", str(task_id), "--state", "finished", "--queue", tier3.queue),
        ("job", job_id),
        ("why", job_id),
        ("queues", "show", tier3.queue),
        ("cache", "list", node),
        ("cache", "locate", *files),
        ("events", "--job", job_id),
    ]
    for command in commands:
        table = pandawn.ok(*command, COLUMNS="80")
        assert table.strip(), command
        # What is to be copied whole (paths, texts of events) may run on; tables may not.
        if command[0] not in {"job", "events"}:
            # Nor may fields, but for a value of one word.
            wide = [line for line in table.splitlines() if len(line) > 80]
            assert all(len(line.split()) == 2 for line in wide), (command, table)
        assert json.loads(pandawn.ok(*command, "--json")), command
    assert job["state"] == "JOB_STATE_FINISHED"
    assert job["input_bytes"] == (tmp_path / files[0]).stat().st_size
    located = json.loads(pandawn.ok("cache", "locate", *files, "--site", tier3.site, "--json"))
    assert located[0]["nodes"] == [node]


def test_a_payload_that_fails_gives_status_1_and_its_story_and_can_be_retried(
    pandawn: Pandawn, tier3: Tier3, start_pilot: StartPilot, tmp_path: Path
) -> None:
    # The payload looks for the flag where no account but the user's may look.
    start_pilot(tier3, payload_user="same")
    flag = tmp_path / "repaired"
    done = pandawn.run(
        *("submit", "--jobs", "2", "--max-attempts", "1", "--queue", tier3.queue, "--wait"),
        *("--", "sh", "-c", f"test -e {flag} || {{ echo no such thing >&2; exit 3; }}"),
    )
    assert done.status == 1
    assert "has failed: 2 failed" in done.out
    assert "PAYLOAD_FAILED" in done.err
    assert "no such thing" in done.err
    (task_id,) = re.findall(r"retry --task (\d+)", done.err)
    flag.touch()
    assert "2 jobs submitted again" in pandawn.ok("retry", "--task", task_id)
    assert "has finished: 2 finished" in pandawn.ok("wait", task_id)
    again = pandawn.run("retry", "--task", task_id)
    assert again.status == 3
    assert "NOTHING_TO_RETRY" in again.err


def test_a_kill_ends_running_and_waiting_jobs(
    pandawn: Pandawn, tier3: Tier3, start_pilot: StartPilot
) -> None:
    start_pilot(tier3)
    task_id = submit(pandawn, "--jobs", "3", "--queue", tier3.queue, "--", "sleep", "600")
    running = ("jobs", "--task", str(task_id), "--state", "running", "--json")
    wait_until(lambda: bool(json.loads(pandawn.ok(*running))))
    assert f"task {task_id}:" in pandawn.ok("kill", "--task", str(task_id))
    done = pandawn.run("wait", str(task_id))
    assert done.status == 1
    assert "3 cancelled" in done.out
    assert "already ended (cancelled)" in pandawn.ok("kill", "--task", str(task_id))


def test_a_number_that_a_task_and_a_job_have_is_not_guessed(pandawn: Pandawn, tier3: Tier3) -> None:
    task_id = submit(pandawn, "--jobs", "2", "--queue", tier3.queue, "--", "true")
    done = pandawn.run("kill", str(task_id))
    assert done.status == 2
    assert f"{task_id} is a task" in done.err
    assert f"pandawn kill --task {task_id}" in done.err
    assert "cancelled" not in pandawn.ok("jobs", "--task", str(task_id))


def test_what_was_cancelled_on_purpose_is_not_started_again_unasked(
    pandawn: Pandawn, tier3: Tier3
) -> None:
    task_id = submit(pandawn, "--jobs", "3", "--queue", tier3.queue, "--", "true")
    pandawn.ok("kill", "--task", str(task_id))
    done = pandawn.run("retry", "--task", str(task_id))
    assert done.status == 2
    assert f"task {task_id} has 3 cancelled jobs; nothing was submitted again" in done.err
    assert "3 jobs submitted again" in pandawn.ok("retry", "--task", str(task_id), "--yes")


def test_a_pipe_gets_all_rows_and_a_limit_is_said(pandawn: Pandawn, tier3: Tier3) -> None:
    task_id = submit(pandawn, "--jobs", "130", "--queue", tier3.queue, "--", "true")
    command = ("jobs", "--task", str(task_id), "--json")
    assert len(json.loads(pandawn.ok(*command))) == 130
    few = pandawn.run(*command, "--limit", "7")
    assert len(json.loads(few.out)) == 7
    assert "first 7" in few.err


def test_one_refused_kill_does_not_spare_the_other_jobs(pandawn: Pandawn, tier3: Tier3) -> None:
    task_id = submit(pandawn, "--jobs", "1", "--queue", tier3.queue, "--", "true")
    job_id = json.loads(pandawn.ok("jobs", "--task", str(task_id), "--json"))[0]["job_id"]
    done = pandawn.run("kill", "--job", "999999999", "--job", str(job_id))
    assert done.status == 3
    assert "JOB_NOT_FOUND" in done.err
    assert f"job {job_id} is cancelled" in done.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("submit", "--queue", "NO-SUCH", "--jobs", "1", "--", "true"), "QUEUE_NOT_FOUND"),
        (("submit", "--site", "NO-SUCH", "--jobs", "1", "--", "true"), "SITE_NOT_FOUND"),
        (("submit", "--queue", "{queue}", "--jobs", "100001", "--", "true"), "TOO_MANY_JOBS"),
        (
            ("submit", "--queue", "{queue}", "--jobs", "1", "--user", "a b", "--", "true"),
            "INVALID_REQUEST",
        ),
        (("job", "999999999"), "JOB_NOT_FOUND"),
        (("why", "999999999"), "JOB_NOT_FOUND"),
        (("wait", "999999999"), "TASK_NOT_FOUND"),
        (("jobs", "--task", "999999999"), "TASK_NOT_FOUND"),
        (("jobs", "--queue", "NO-SUCH", "--json"), "QUEUE_NOT_FOUND"),
        (("events", "--task", "999999999"), "TASK_NOT_FOUND"),
        (("events", "--job", "999999999", "--json"), "JOB_NOT_FOUND"),
        (("queues", "set", "NO-SUCH", "cores=2"), "QUEUE_NOT_FOUND"),
        (("queues", "set", "NO-SUCH", "--level", "site", "cores=2"), "SITE_NOT_FOUND"),
        (("queues", "delete", "NO-SUCH"), "QUEUE_NOT_FOUND"),
        (("tasks", "999999999"), "TASK_NOT_FOUND"),
        (("retry", "999999999"), "JOB_NOT_FOUND"),
        (("queues", "show", "NO-SUCH"), "QUEUE_NOT_FOUND"),
        (("queues", "apply", "{queue}", "--lease", "1s"), "INVALID_REQUEST"),
        (("queues", "apply", "{queue}", "--cloud", "X", "--etag", "old"), "STALE_ETAG"),
        (("cache", "list", "no-such-node"), "NODE_NOT_FOUND"),
        (("cache", "list", "no-such-node", "--site", "S"), "NODE_NOT_FOUND"),
        (("cache", "flush", "no-such-node", "--site", "S"), "NODE_NOT_FOUND"),
        (("cache", "locate", "f", "--site", "NO-SUCH"), "SITE_NOT_FOUND"),
        (("cache", "add", "a b", "--lfn", "f=1", "--site", "S"), "INVALID_REQUEST"),
        (("cache", "add", "n" * 300, "--lfn", "f=1", "--site", "S"), "INVALID_REQUEST"),
        (("cache", "add", "wn", "--lfn", "f" * 300 + "=1", "--site", "S"), "INVALID_REQUEST"),
        (("cache", "add", "wn", "--lfn", "a\x07b=1", "--site", "S"), "INVALID_REQUEST"),
    ],
)
def test_a_refusal_has_status_3_and_its_reason(
    pandawn: Pandawn, tier3: Tier3, arguments: tuple[str, ...], reason: str
) -> None:
    done = pandawn.run(*(word.replace("{queue}", tier3.queue) for word in arguments))
    assert done.status == 3, done.err
    assert f"[{reason}]" in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "\x07" not in done.err


def test_a_task_of_too_many_jobs_is_told_the_limit(pandawn: Pandawn, tier3: Tier3) -> None:
    done = pandawn.run("submit", "--queue", tier3.queue, "--jobs", "100001", "--", "true")
    assert "100,000" in done.err


def test_all_that_is_wrong_is_said_at_once_in_the_words_of_the_command_line(
    pandawn: Pandawn, tier3: Tier3, tmp_path: Path
) -> None:
    long_name = "/".join("d" * 100 for _ in range(3))
    write_files(tmp_path, f"{long_name}/f.root")
    done = pandawn.run(
        *("submit", f"{long_name}/f.root", "--lfn-depth", "4", "--queue", tier3.queue),
        *("--user", "a b", "--priority", "99999", "--dataset", "x/y", "--", "true"),
    )
    assert done.status == 3
    for word in ("argument 1 (", "--user:", "--priority:", "--dataset:"):
        assert word in done.err


def test_a_dataset_is_written_once(pandawn: Pandawn, tier3: Tier3) -> None:
    again = (
        "--dataset",
        f"once.{tier3.queue}",
        "--queue",
        tier3.queue,
        "--jobs",
        "1",
        "--",
        "true",
    )
    submit(pandawn, *again)
    done = pandawn.run("submit", *again)
    assert done.status == 3
    assert "DATASET_EXISTS" in done.err


def test_a_queue_is_made_changed_and_put_back(pandawn: Pandawn, tier3: Tier3) -> None:
    name = f"{tier3.queue}.new"
    made = json.loads(
        pandawn.ok(
            *("queues", "apply", name, "--site", "S", "--lease", "30s", "--max-input", "2GiB"),
            *("--storage-root", "/data/out put", "--json"),
        )
    )
    assert made["created"]
    assert made["queue"]["max_input_bytes"] == 2 * 1024**3
    assert made["queue"]["storage_root"] == "file:///data/out%20put"
    etag = made["queue"]["etag"]
    changed = pandawn.ok("queues", "apply", name, "--status", "offline", "--etag", etag)
    assert "offline" in changed
    assert pandawn.run("queues", "apply", name, "--cores", "2", "--etag", etag).status == 3
    pandawn.ok("queues", "apply", name, "--reset", "max-input", "--cloud", "US")
    queue = json.loads(pandawn.ok("queues", "show", name, "--json"))
    assert queue["max_input_bytes"] == 14336 * 1024**2
    assert queue["cloud"] == "US"
    assert queue["lease_duration"] == "30s"


def test_the_catalog_can_be_told_asked_and_emptied(
    pandawn: Pandawn, tier3: Tier3, tmp_path: Path
) -> None:
    files = write_files(tmp_path, "a.root", "b.root")
    at = ("--site", tier3.site)
    pandawn.ok("cache", "add", "wn07.example.org", *files, "--lfn", "far.root=3GiB", *at)
    listed = json.loads(pandawn.ok("cache", "list", "wn07.example.org", *at, "--json"))
    assert {f["lfn"]: f["size_bytes"] for f in listed}["far.root"] == 3 * 1024**3
    located = json.loads(pandawn.ok("cache", "locate", "b.root", "zz", *at, "--json"))
    assert [one["nodes"] for one in located] == [["wn07.example.org"], []]
    assert "1 of 2 files deleted" in pandawn.ok(
        "cache", "delete", "wn07.example.org", "a.root", "zz", *at
    )
    assert "2 files" in pandawn.ok("cache", "flush", "wn07.example.org", *at)
    assert json.loads(pandawn.ok("cache", "list", "wn07.example.org", *at, "--json")) == []


def test_names_that_the_server_does_not_know_are_said_to_be_unknown(pandawn: Pandawn) -> None:
    for command in ("jobs", "tasks"):
        said = pandawn.run(command, "--user", "nobody.here")
        assert said.status == 0
        assert "no tasks of a user nobody.here" in said.err
    said = pandawn.run("jobs", "--node", "nowhere.example.org")
    assert said.status == 3
    assert "there is no node nowhere.example.org" in said.err


def test_nodes_list_is_nodes(pandawn: Pandawn, tier3: Tier3, start_pilot: StartPilot) -> None:
    start_pilot(tier3, node="wn-listed")
    wait_until(lambda: "wn-listed" in pandawn.ok("nodes", "--json"))
    listed = json.loads(pandawn.ok("nodes", "list", "--json"))
    assert "wn-listed" in {node["node"] for node in listed}
    assert json.loads(pandawn.ok("nodes", "list", "--site", "NOWHERE", "--json")) == []


def test_events_are_followed_over_a_kill_of_the_server(
    own_tier3: Tier3, tmp_path: Path, run_cli: RunCli
) -> None:
    pandawn = Pandawn(own_tier3.server.address, tmp_path, run_cli)
    task_id = submit(pandawn, "--jobs", "1", "--queue", own_tier3.queue, "--", "true")
    follower = pandawn.start("events", "--follow", "--tail", "100", "--json")
    assert follower.stdout is not None
    first = json.loads(follower.stdout.readline())
    own_tier3.server.kill9()
    own_tier3.server.start()
    pandawn.ok("kill", "--task", str(task_id))
    seen = [first["event_id"]]
    for line in follower.stdout:
        event = json.loads(line)
        seen.append(event["event_id"])
        if event["kind"] == "JOB_CANCELLED":
            break
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert seen == sorted(set(seen))


def test_an_interrupted_wait_leaves_the_task_alone(pandawn: Pandawn, tier3: Tier3) -> None:
    task_id = submit(pandawn, "--jobs", "1", "--queue", tier3.queue, "--", "true")
    waiting = pandawn.start("wait", str(task_id))
    assert waiting.stderr is not None
    assert "activated" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert f"Task {task_id} continues" in said
    assert "Traceback" not in said
    assert "activated" in pandawn.ok("jobs", "--task", str(task_id))


def test_the_shell_completes_commands_options_and_states(pandawn: Pandawn) -> None:
    def complete(*words: str) -> list[str]:
        done = pandawn.run_program(
            PROGRAM,
            _PANDAWN_COMPLETE="complete_bash",
            COMP_WORDS=" ".join(["pandawn", *words]),
            COMP_CWORD=str(len(words)),
        )
        return done.out.split()

    assert complete("que") == ["queues"]
    assert {"list", "show", "apply"} <= set(complete("queues", ""))
    assert "--files-per-job" in complete("submit", "--files")
    assert "running" in complete("jobs", "--state", "run")
    for shell in ("bash", "zsh", "fish"):
        assert f"_PANDAWN_COMPLETE=complete_{shell}" in pandawn.ok("completion", shell)


def test_colour_is_for_terminals_and_not_for_those_who_want_none(pandawn: Pandawn) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    command = (PROGRAM, "queues", "list")
    assert "\x1b" not in pandawn.run_program(*command).out
    assert colour.search(pandawn.run_program(*command, FORCE_COLOR="1").out)
    assert not colour.search(pandawn.run_program(*command, FORCE_COLOR="1", NO_COLOR="1").out)


@pytest.mark.parametrize("arguments", ["jobs --all", "jobs --all --json", "events --tail 0"])
def test_a_reader_that_goes_away_is_no_error(
    pandawn: Pandawn, tier3: Tier3, arguments: str
) -> None:
    submit(pandawn, "--jobs", "2000", "--queue", tier3.queue, "--", "true")
    command = f"set -o pipefail; {PROGRAM} {arguments} | head -n 1"
    done = pandawn.run_program("bash", "-c", command)
    assert done.out.count("\n") == 1
    assert done.err == ""
    assert done.status in {0, 141}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_found_before_submission(
    pandawn: Pandawn, tier3: Tier3, tmp_path: Path
) -> None:
    write_files(tmp_path, "secret.root")
    (tmp_path / "secret.root").chmod(0)
    done = pandawn.run("submit", "secret.root", "--queue", tier3.queue, "--", "true")
    assert done.status == 2
    assert "permissions" in done.err
