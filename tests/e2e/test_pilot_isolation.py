"""Payloads that go for the pilot's credentials: in another account, and in the pilot's own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import pandawn
import pandawn_pilot
from pandawn.broker.v1.job_pb2 import FILE_ROLE_LOG, FILE_ROLE_OUTPUT
from pandawn.broker.v1.task_pb2 import TaskInput
from pandawn.common.v1 import common_pb2
from tests.fixtures import thief
from tests.fixtures.pilots import PilotPlace, PilotProcess, StartPilot, wait_until
from tests.fixtures.server import PandawnServer
from tests.fixtures.tier3 import Tier3

PLAIN_USER = 4711
"""Number of an account that no node has."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


@pytest.fixture
def python() -> str:
    """A Python of this version that all accounts may start: not that of the tests, often."""
    probe = "import grpc, sys; sys.exit(sys.version_info[:2] != " + repr(sys.version_info[:2]) + ")"
    for candidate in (sys.executable, "/usr/bin/python3"):
        done = (
            subprocess.run(
                [candidate, "-c", probe],
                user=PLAIN_USER,
                group=PLAIN_USER,
                extra_groups=[],
                env={"PYTHONPATH": _python_path(), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                check=False,
                capture_output=True,
            )
            if Path(candidate).exists() and _can_start(candidate)
            else None
        )
        if done is not None and done.returncode == 0:
            return candidate
    pytest.skip("no Python of this version is open to all accounts")


def _can_start(program: str) -> bool:
    try:
        subprocess.run(
            [program, "--version"],
            user=PLAIN_USER,
            cwd="/",
            check=True,
            env={},
            capture_output=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _python_path() -> str:
    import grpc

    places = [Path(module.__file__ or "").parents[1] for module in (grpc, pandawn, pandawn_pilot)]
    return os.pathsep.join(str(place) for place in places)


def make_secret() -> str:
    return thief.MARK.decode() + secrets.token_hex(16)


@pytest.fixture
def site(shared_server: PandawnServer, pilot_root: Path) -> Iterator[Tier3]:
    """A Tier 3 whose storage another account can reach."""
    tier3 = Tier3(shared_server, pilot_root / "site")
    yield tier3
    tier3.close()


def steal(tier3: Tier3, pilot: PilotProcess, python: str, *files: Path) -> dict[str, list[str]]:
    """Runs the thief as a payload; returns its story."""
    trees = [str(pilot.work_dir), str(pilot.cache_dir)]
    task = tier3.submit(
        "",
        tier3.make_inputs(1),
        command=[python, "thief.py", *map(str, files), "--", *trees],
        outputs=["story.json"],
        sandbox_id=tier3.upload({"thief.py": Path(thief.__file__).read_text()}),
        max_attempts=1,
    )
    (job,) = tier3.finish(task)
    (story,) = tier3.stored(job.job_id, FILE_ROLE_OUTPUT)
    told: dict[str, list[str]] = json.loads(story.read_text())
    assert told["looked"], "it looked at nothing"
    return told


def test_the_thief_finds_what_can_be_found(tmp_path: Path) -> None:
    secret = make_secret()
    (tmp_path / "token").write_text(secret)
    with subprocess.Popen(["sleep", "60"], env={"T": secret}, start_new_session=True) as victim:
        subprocess.run(
            [sys.executable, thief.__file__, str(tmp_path / "token"), "--"],
            cwd=tmp_path,
            check=True,
            timeout=60,
        )
        victim.kill()
    told = json.loads((tmp_path / "story.json").read_text())
    assert {str(tmp_path / "token"), f"/proc/{victim.pid}/environ", f"/proc/{victim.pid}/mem"} <= {
        *told["found"]
    }
    assert f"ptrace of {victim.pid}" in told["attached"]


@pytest.mark.parametrize("account", [None, "nobody", "4711", "70000-70009"])
def test_a_payload_in_another_account_finds_no_credential_of_its_pilot(
    site: Tier3, start_pilot: StartPilot, pilot_root: Path, python: str, account: str | None
) -> None:
    secret = make_secret()
    token = pilot_root / "token"
    token.write_text(secret + "\n")
    token.chmod(0o600)
    pilot = start_pilot(
        site,
        environment={"SOME_TOKEN": secret, "HARMLESS": "yes", "SECRETLY": secret},
        token_file=token,
        payload_user=account,
    )
    told = steal(site, pilot, python, token, pilot.work_dir / "pilot.json", pilot.work_dir / "lock")
    assert told["found"] == []
    assert told["attached"] == []
    assert str(token) not in told["looked"]
    assert not any(name.endswith(("pilot.json", "/environ")) for name in told["looked"])
    # It stays for the next registration.
    assert token.exists()


def start_as_plain_user(
    site: Tier3, start_pilot: StartPilot, root: Path, python: str, secret: str, **options: object
) -> PilotProcess:
    """A pilot without rights, with a token in each place that there is for one."""
    place = PilotPlace(root / "plain")
    for directory in (place.root, site.storage):
        shutil.chown(directory, PLAIN_USER, PLAIN_USER)
    return start_pilot(
        site,
        place=place,
        command=[
            "setpriv", f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups", "--",
            python, "-m", "pandawn_pilot.cli",
        ],
        environment={
            "BEARER_TOKEN": secret,
            "X509_USER_PROXY": "/nowhere",
            "PYTHONPATH": _python_path(),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        **options,
    )  # fmt: skip


def test_a_payload_in_the_pilots_own_account_finds_no_token(
    site: Tier3, start_pilot: StartPilot, pilot_root: Path, python: str
) -> None:
    secret = make_secret()
    token = pilot_root / "plain" / "token"
    token.parent.mkdir()
    token.write_text(secret)
    token.chmod(0o600)
    os.chown(token, PLAIN_USER, PLAIN_USER)
    pilot = start_as_plain_user(site, start_pilot, pilot_root, python, secret, token_file=token)
    told = steal(site, pilot, python, token)
    assert told["found"] == []
    assert not any(f"/{pilot.pid}/" in name for name in told["looked"] if "cmdline" not in name)
    assert f"ptrace of {pilot.pid}" not in told["attached"]
    assert not token.exists()
    assert "the pilot has the token in memory" in pilot.log


def test_a_link_to_the_pilots_environment_is_no_output(
    site: Tier3, start_pilot: StartPilot, pilot_root: Path, python: str
) -> None:
    secret = make_secret()
    pilot = start_as_plain_user(site, start_pilot, pilot_root, python, secret)
    script = "ln -s /proc/self/environ out; ln -sf /proc/self/environ ../payload.stdout; exit 0"
    (job,) = site.wait_for_end(site.submit(script, outputs=["out"], max_attempts=1))
    assert job.error.reason == "OUTPUT_MISSING"
    assert "leads out of the work directory" in job.error.text
    (log,) = site.stored(job.job_id, FILE_ROLE_LOG)
    unpacked = subprocess.run(["tar", "xzOf", log], check=True, capture_output=True).stdout
    assert b"setpriv" not in unpacked
    assert not thief.looks_like_secret(unpacked)
    assert not thief.looks_like_secret(Path(f"/proc/{pilot.pid}/environ").read_bytes())


def test_a_payload_in_another_account_cannot_have_root_read_files_for_it(
    site: Tier3, start_pilot: StartPilot, pilot_root: Path
) -> None:
    treasure = pilot_root / "treasure"
    treasure.write_text(make_secret())
    treasure.chmod(0o600)
    pilot = start_pilot(site)
    for script in (
        f"ln -s {treasure} out",
        f"mkdir -p a && ln -s {treasure.parent} a/b && ln -s a/b/treasure out",
        f"ln {treasure} out || ln -s {treasure} out",
        "ln -s /proc/self/environ out",
    ):
        (job,) = site.wait_for_end(site.submit(script, outputs=["out"], max_attempts=1))
        assert job.error.reason == "OUTPUT_MISSING", script
    stored = [path for path in site.storage.rglob("*") if path.is_file()]
    assert stored
    assert not any(thief.looks_like_secret(path.read_bytes()) for path in stored)
    assert pilot.is_running()


def test_a_user_cannot_have_root_stage_in_what_the_payload_may_not_read(
    site: Tier3, start_pilot: StartPilot
) -> None:
    (item,) = site.make_inputs(1)
    secret = Path(item.url.removeprefix("file://"))
    secret.chmod(0o640)
    link = secret.with_name("link")
    link.symlink_to(secret)
    start_pilot(site)
    for url in (item.url, link.as_uri(), f"file://{secret.parent}/%6cink"):
        named = TaskInput(file=item.file, url=url)
        (job,) = site.wait_for_end(site.submit("cat *", [named], max_attempts=1))
        assert job.error.reason == "INPUT_UNREADABLE", job.error
        assert "is not allowed to read it" in job.error.text
    secret.chmod(0o644)
    site.finish(site.submit("true", [item]))


def test_payloads_of_other_slots_cannot_look_into_each_others_directories(
    site: Tier3, start_pilot: StartPilot
) -> None:
    sleeper = site.submit("echo private > f; chmod 666 f; sleep 600", outputs=[])
    pilot = start_pilot(site, max_jobs=2)
    pilot.wait_for_log("payload starts")
    (directory,) = (pilot.work_dir / "jobs").iterdir()
    wait_until((directory / "work/f").exists)
    script = (
        f"id -u; cat {directory}/work/f {directory}/payload.stdout; echo x > {directory}/work/g"
    )
    task = site.submit(f"({script}) > out 2>&1; true", outputs=["out"])
    (job,) = site.finish(task)
    (out,) = site.stored(job.job_id, FILE_ROLE_OUTPUT)
    text = out.read_text()
    assert "private" not in text
    assert text.count("ermission denied") == 3
    assert not (directory / "work/g").exists()
    assert (directory / "work/f").stat().st_uid != int(text.split()[0])
    assert site.jobs(sleeper)[0].state == common_pb2.JOB_STATE_RUNNING


def test_a_cached_file_cannot_be_written_by_the_payload_that_it_is_linked_for(
    site: Tier3, start_pilot: StartPilot
) -> None:
    (item,) = inputs = site.make_inputs(1)
    pilot = start_pilot(site)
    script = (
        'chmod u+w "$1"; echo spoilt > "$1"; echo spoilt >> "$1"; truncate -s 0 "$1"; touch "$1";'
        ' stat -c "%u %a %s" "$1" > out; cat "$1" > mine && rm "$1"'
    )
    task = site.submit(script, inputs, outputs=["out"])
    (job,) = site.finish(task)
    (out,) = site.stored(job.job_id, FILE_ROLE_OUTPUT)
    assert out.read_text().split() == ["0", "444", "1000"]
    (cached,) = (pilot.cache_dir / "files").rglob("data")
    original = Path(item.url.removeprefix("file://")).read_bytes()
    assert cached.read_bytes() == original
    again = site.submit("cksum < $1", inputs)
    assert site.finish(again)[0].bytes_from_cache == 1000


def test_nothing_of_a_payload_in_another_account_outlives_it(
    site: Tier3, start_pilot: StartPilot
) -> None:
    script = (
        "setsid sh -c 'setsid sleep 601 & sleep 602' < /dev/null > /dev/null 2>&1 & id -u > out"
    )
    pilot = start_pilot(site)
    (job,) = site.finish(site.submit(script, outputs=["out"]))
    (out,) = site.stored(job.job_id, FILE_ROLE_OUTPUT)
    uid = int(out.read_text())
    assert uid not in (0, PLAIN_USER)
    assert [p for p in psutil.process_iter() if p.uids().real == uid] == []
    assert pilot.is_running()


def test_a_payload_in_another_account_gets_no_rights_back(
    site: Tier3, start_pilot: StartPilot
) -> None:
    start_pilot(site)
    script = (
        "id -G > out; umask >> out; grep -E 'NoNewPrivs|CapEff|CapPrm' /proc/self/status >> out"
    )
    (job,) = site.finish(site.submit(script, outputs=["out"]))
    (out,) = site.stored(job.job_id, FILE_ROLE_OUTPUT)
    groups, umask, *status = out.read_text().splitlines()
    assert len(groups.split()) == 1
    assert groups != "0"
    assert umask == "0077"
    values = dict(line.split() for line in status)
    assert values["NoNewPrivs:"] == "1"
    assert int(values["CapEff:"], 16) == int(values["CapPrm:"], 16) == 0


def test_a_pilot_whose_payloads_could_not_enter_their_directories_says_so_and_ends(
    site: Tier3, start_pilot: StartPilot
) -> None:
    with tempfile.TemporaryDirectory() as closed:
        pilot = start_pilot(site, place=PilotPlace(Path(closed) / "p"))
        assert pilot.wait() == 2
    assert "cannot enter" in pilot.log
    assert "chmod o+x" in pilot.log


def test_a_build_job_in_another_account_makes_a_library(
    site: Tier3, start_pilot: StartPilot
) -> None:
    task = site.submit(
        "",
        site.make_inputs(1),
        command=["./run.sh"],
        outputs=["out"],
        build=True,
        build_command=["sh", "-c", "mkdir lib && cp run.in lib/x && cp run.in run.sh"],
        sandbox_id=site.upload({"run.in": "#!/bin/sh\ntest -f lib/x && id -u > out\n"}),
    )
    start_pilot(site)
    site.finish(task)
