"""`pandawn-pcache-hook sync --watch` beside the real pcache: the catalog follows the disk by itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.fixtures.pcache import Pcache, remove
from tests.fixtures.pilots import wait_until
from tests.fixtures.processes import STOP_TIMEOUT_S
from tests.fixtures.server import PandawnServer

TRANSFERRED = 0


# In a user name space of its own a process may have limits of its own.
FEW_WATCHES = (
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 3 > /proc/sys/user/max_inotify_watches && exec "$@"',
    "sh",
)


class StartWatch(Protocol):
    def __call__(
        self, server: PandawnServer, *options: str, within: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]: ...


@pytest.fixture
def start_watch(pcache: Pcache, tmp_path: Path) -> Iterator[StartWatch]:
    """A function that starts a watcher, which logs to `watch.log`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(
        server: PandawnServer, *options: str, within: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        with (tmp_path / "watch.log").open("ab") as log:
            command = [*within, *pcache.sync_command(server, "--watch", *options)]
            started.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> int:
    process.send_signal(how)
    return process.wait(STOP_TIMEOUT_S)


@pytest.mark.parametrize("options", [(), ("--poll",)], ids=["inotify", "poll"])
def test_what_comes_goes_and_is_wiped_is_followed(
    shared_server: PandawnServer,
    pcache: Pcache,
    start_watch: StartWatch,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    watch = start_watch(shared_server, *options)
    for path in pcache.make("mc/a", "mc/b", "data/c", "data/d"):
        assert pcache.get(path) == TRANSFERRED
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 4)
    epoch = pcache.epoch(shared_server)
    assert pcache.get(pcache.make("mc/e")[0], "--max-space=3500") == TRANSFERRED
    pcache.wait_for_cleaner()
    pcache.wait_for_agreement(shared_server, lambda held: len(held) < 5)
    assert pcache.epoch(shared_server) == epoch
    assert pcache.run("--flush-cache") == 0
    pcache.wait_for_agreement(shared_server, lambda held: held == {})
    assert pcache.get(pcache.make("mc/f")[0]) == TRANSFERRED
    pcache.wait_for_agreement(shared_server, lambda held: set(held) == {"f"})
    assert pcache.epoch(shared_server) != epoch
    pcache.wipe()
    pcache.wait_for_agreement(shared_server, lambda held: held == {})
    assert pcache.get(pcache.make("mc/g")[0]) == TRANSFERRED
    pcache.wait_for_agreement(shared_server, lambda held: set(held) == {"g"})
    assert stop(watch) == 0
    assert "ended by SIGTERM; all changes are reported" in (tmp_path / "watch.log").read_text()


def test_what_happened_while_the_server_was_away_is_told_when_it_is_back(
    embedded_server: PandawnServer, pcache: Pcache, start_watch: StartWatch
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    watch = start_watch(embedded_server)
    pcache.wait_for_agreement(embedded_server, lambda held: len(held) == 1)
    embedded_server.kill9()
    pcache.get(two)
    shutil.rmtree(pcache.entry(one))
    embedded_server.start()
    pcache.wait_for_agreement(embedded_server, lambda held: set(held) == {"two"})
    embedded_server.freeze()
    pcache.get(one)
    # A server that does not answer keeps nobody from ending.
    assert stop(watch, signal.SIGINT) == 0
    embedded_server.thaw()


def test_a_scratch_directory_that_was_wiped_takes_the_books_too_and_nothing_else(
    shared_server: PandawnServer, pcache: Pcache, start_watch: StartWatch
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    watch = start_watch(shared_server)
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 1)
    remove(pcache.scratch)
    pcache.jobs.mkdir(parents=True)
    pcache.wait_for_agreement(shared_server, lambda held: held == {})
    pcache.get(two)
    pcache.wait_for_agreement(shared_server, lambda held: set(held) == {"two"})
    assert stop(watch) == 0


def test_a_watcher_a_cron_job_and_another_watcher_agree(
    shared_server: PandawnServer, pcache: Pcache, start_watch: StartWatch
) -> None:
    start_watch(shared_server)
    start_watch(shared_server, "--poll")
    files = pcache.make(*(f"d{number % 3}/f{number}" for number in range(9)))
    for number, path in enumerate(files):
        pcache.get(path)
        if number % 4 == 3:
            shutil.rmtree(pcache.entry(files[number - 2]))
            pcache.sync(shared_server)
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 7)


def test_a_watcher_that_was_killed_leaves_nothing_in_the_way_of_the_next(
    shared_server: PandawnServer, pcache: Pcache, start_watch: StartWatch
) -> None:
    one, two = pcache.make("one", "two")
    pcache.get(one)
    watch = start_watch(shared_server)
    wait_until(lambda: pcache.in_catalog(shared_server) == {"one": 1000})
    watch.kill()
    watch.wait()
    pcache.get(two)
    start_watch(shared_server)
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 2)


def test_a_watcher_that_runs_out_of_watches_says_so_and_looks_every_few_seconds(
    shared_server: PandawnServer, pcache: Pcache, start_watch: StartWatch, tmp_path: Path
) -> None:
    if subprocess.run([*FEW_WATCHES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user name spaces")
    first, second = pcache.make("a/one", "b/two")
    pcache.get(first)
    watch = start_watch(shared_server, within=FEW_WATCHES)
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 1)
    pcache.get(second)
    pcache.wait_for_agreement(shared_server, lambda held: len(held) == 2)
    shutil.rmtree(pcache.entry(first).parent)
    # pcache, unlike us, would have written down the new size, which is what is looked at.
    (pcache.cache / "size").touch()
    pcache.wait_for_agreement(shared_server, lambda held: set(held) == {"two"})
    assert (
        "the limit fs.inotify.max_user_watches is reached" in (tmp_path / "watch.log").read_text()
    )
    assert stop(watch) == 0
