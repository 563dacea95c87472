"""`pandawn-pcache` in the place of pcache.py: the same to its caller, and the catalog knows."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.pcache import SITE, WRAPPER, Pcache
from tests.fixtures.pilots import wait_until
from tests.fixtures.server import PandawnServer

TRANSFERRED, HIT, FAILED, TIMED_OUT, USAGE = 0, 1, 3, 4, 100


class Wrapped:
    """Runs the wrapper around the real pcache."""

    def __init__(self, pcache: Pcache, address: str) -> None:
        self._pcache = pcache
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "SITE"},
            "PANDAWN_PCACHE_CMD": shlex.join(map(str, pcache.program)),
            "PANDAWN_SERVER": address,
            "PANDAWN_SITE": SITE,
            "PANDAWN_NODE": pcache.node,
        }

    def start(self, *words: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [WRAPPER, *self._pcache.options, *map(str, words)],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: str | Path) -> tuple[int, bytes, bytes]:
        process = self.start(*words)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def wrapped(shared_server: PandawnServer, pcache: Pcache) -> Wrapped:
    """The wrapper, reporting to the server that the module shares."""
    return Wrapped(pcache, shared_server.address)


def test_what_the_wrapper_fetched_and_what_pcache_then_removed_is_in_the_catalog(
    shared_server: PandawnServer, pcache: Pcache, wrapped: Wrapped
) -> None:
    job = pcache.jobs / "job"
    for name in ("a", "b", "c"):
        (path,) = pcache.make(name)
        assert wrapped.run("cp", path, job)[0] == TRANSFERRED
        assert wrapped.run("cp", path, job)[0] == HIT
        pcache.wait_for_agreement(shared_server, lambda held, name=name: name in held)  # type: ignore[misc]
    (path,) = pcache.make("d")
    assert wrapped.run("--max-space=2500", "cp", path, job)[0] == TRANSFERRED
    pcache.wait_for_cleaner()
    pcache.wait_for_agreement(shared_server, lambda held: len(held) < 4)
    assert wrapped.run("--flush-cache")[0] == 0
    pcache.wait_for_agreement(shared_server, lambda held: held == {})


def test_status_and_output_are_those_of_the_real_one(pcache: Pcache, wrapped: Wrapped) -> None:
    (path,) = pcache.make("a")
    copier = pcache.source / "copier"
    copier.write_text("#!/bin/sh\necho hello\nexit 7\n")
    copier.chmod(0o755)
    slow = pcache.source / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    cases: list[tuple[list[str | Path], int]] = [
        (["--retry=0", copier, path, pcache.jobs / "x"], FAILED),
        (["--retry=0", "--timeout=1", slow, path, pcache.jobs / "x"], TIMED_OUT),
        (["--no-such-option"], USAGE),
        (["cp", path], USAGE),
        (["--version"], 0),
        # Past the cache: the status is that of the copy program.
        (["--reject=.", copier, path, pcache.jobs / "x"], 7),
    ]
    for words, status in cases:
        real = pcache.start(*words)
        said = real.communicate(timeout=60)
        assert real.returncode == status
        out, err = said
        assert wrapped.run(*words)[:2] == (status, out)
        assert (b"rror" in err) == (b"rror" in wrapped.run(*words)[2])


def test_a_signal_reaches_the_real_one_and_the_status_says_so(
    pcache: Pcache, wrapped: Wrapped
) -> None:
    (path,) = pcache.make("a")
    slow = pcache.source / "slow"
    slow.write_text('#!/bin/sh\n: > "$2"\nexec sleep 600\n')
    slow.chmod(0o755)
    process = wrapped.start(slow, path, pcache.jobs / "x")
    wait_until((pcache.entry(path) / "xfer").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"PANDAWN_SERVER": "127.0.0.1:9"}, b"pandawn-pcache: not reported: "),
        ({"PANDAWN_SERVER": ""}, b"PANDAWN_SERVER"),
        ({"PANDAWN_SITE": "no site"}, b"no site"),
    ],
    ids=["away", "unnamed", "refused"],
)
def test_a_report_that_fails_changes_neither_file_nor_status(
    pcache: Pcache, wrapped: Wrapped, changes: dict[str, str], complaint: bytes
) -> None:
    wrapped.environment.update(changes)
    (path,) = pcache.make("a")
    status, _, said = wrapped.run("cp", path, pcache.jobs / "a")
    assert status == TRANSFERRED
    assert (pcache.jobs / "a").read_bytes() == path.read_bytes()
    # One that is away may be away longer than the caller is made to wait.
    assert complaint in said or (said == b"" and "PANDAWN_SERVER" in changes)
    assert wrapped.run("cp", path, pcache.jobs / "b")[0] == HIT


def test_a_real_one_that_cannot_be_run_is_named(pcache: Pcache, wrapped: Wrapped) -> None:
    wrapped.environment["PANDAWN_PCACHE_CMD"] = str(pcache.source / "nowhere.py")
    status, _, said = wrapped.run("--version")
    assert status == 127
    assert b"nowhere.py" in said
