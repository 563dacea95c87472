"""`pandawn-pcache-hook xrootd` between a real XRootD server and a real Pandawn server."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pandawn.filecatalog.v1 import filecatalog_pb2 as wire
from pandawn.filecatalog.v1 import lookup_pb2
from pandawn.filecatalog.v1.filecatalog_pb2_grpc import FileCatalogStub
from pandawn_client.refusals import failure_of
from pandawn_pilot.catalog.file_names import rucio_path
from pandawn_pilot.hooks.pcache_hook import main
from tests.fixtures.pilots import wait_until
from tests.fixtures.ports import LOOPBACK
from tests.fixtures.server import PandawnServer
from tests.fixtures.xrootd import EXPORT, XrootdFactory, XrootdServer

PROGRAM = Path(sys.executable).with_name("pandawn-pcache-hook")
SITE = "TIER3"


class Hook:
    """The installed command, for one XRootD server as one node of its own."""

    def __init__(self, server: PandawnServer, xrootd: XrootdServer, state: Path) -> None:
        self.node = f"wn-{secrets.token_hex(4)}"
        self._server = server
        self._state = state
        self.xrootd = xrootd
        self.options = ["--prefix", EXPORT, "--state-dir", str(state)]

    def command(self, *options: str, **place: str) -> list[str | Path]:
        url = place.get("url", self.xrootd.url)
        about = ["--server", self._server.address, "--site", SITE, "--node", self.node]
        return [PROGRAM, "xrootd", *about, "--url", url, *self.options, *options]

    def run_installed(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Runs the installed command, in the locale of a batch job that sets none."""
        return subprocess.run(
            self.command(*options),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )

    def run(self, *options: str, **place: str) -> subprocess.CompletedProcess[str]:
        """The same in this process, which is quicker, and where log lines are not captured."""
        words = [str(word) for word in self.command(*options, **place)[1:]]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
        return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())

    def tell(self, *options: str) -> str:
        """Runs the command, which must succeed; returns what it says."""
        done = self.run(*options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cache(self) -> wire.Cache:
        with self._server.channel() as channel:
            request = wire.GetCacheRequest(site=SITE, node=self.node)
            return FileCatalogStub(channel).GetCache(request).cache

    def known(self) -> dict[str, int]:
        """What the catalog believes the node to hold."""
        with self._server.channel() as channel:
            request = lookup_pb2.ListNodeFilesRequest(site=SITE, node=self.node)
            try:
                files = [h.file for h in FileCatalogStub(channel).ListNodeFiles(request).files]
            except grpc.RpcError as error:
                if failure_of(error).reason != "NODE_NOT_FOUND":
                    raise
                return {}
            return {f"{f.scope}:{f.lfn}" if f.scope else f.lfn: f.size_bytes for f in files}


@pytest.fixture
def hook(shared_server: PandawnServer, xrootd: XrootdServer, tmp_path: Path) -> Hook:
    """The command for the server that the module shares."""
    return Hook(shared_server, xrootd, tmp_path / "state")


def test_an_inventory_has_names_and_sizes_of_all_files(hook: Hook) -> None:
    hook.xrootd.put("mc/a.root", b"12345")
    hook.xrootd.put("mc/deep/er/b c żółw.root", b"")
    hook.xrootd.put("100%20.root", b"1")
    (hook.xrootd.files / "empty").mkdir()
    said = hook.run_installed().stdout
    assert hook.known() == {"a.root": 5, "b c żółw.root": 0, "100%20.root": 1}
    assert said.startswith(f"3 files, 6 bytes, below {hook.xrootd.url}/{EXPORT} (3 new, 0 gone)")


def test_an_empty_server_is_a_node_that_holds_nothing(hook: Hook) -> None:
    hook.tell()
    assert hook.cache().file_count == 0
    assert hook.cache().state.epoch != 0


def test_what_changed_is_told_as_deltas_of_one_epoch(hook: Hook) -> None:
    hook.xrootd.put("stays")
    hook.xrootd.put("goes")
    hook.tell()
    first = hook.cache().state
    hook.xrootd.remove("goes")
    hook.xrootd.put("comes", b"12")
    assert "(1 new, 1 gone)" in hook.tell()
    assert hook.known() == {"stays": 7, "comes": 2}
    second = hook.cache().state
    assert (second.epoch, second.sequence) == (first.epoch, first.sequence + 2)
    # Nothing new, nothing sent.
    hook.tell()
    assert hook.cache().state == second


def test_a_file_of_another_size_is_another_file(hook: Hook) -> None:
    hook.xrootd.put("a", b"1")
    hook.xrootd.put("b", b"1")
    hook.tell()
    hook.xrootd.put("a", b"123")
    hook.tell()
    assert hook.known() == {"a": 3, "b": 1}


@pytest.mark.parametrize("leave_prefix", [True, False], ids=["emptied", "without the directory"])
def test_an_emptied_server_begins_a_new_epoch(hook: Hook, *, leave_prefix: bool) -> None:
    hook.options = ["--prefix", f"{EXPORT}/data", *hook.options[2:]]
    hook.xrootd.put("data/a")
    hook.tell()
    before = hook.cache().state.epoch
    shutil.rmtree(hook.xrootd.files / "data")
    if leave_prefix:
        (hook.xrootd.files / "data").mkdir()
    hook.tell()
    assert hook.known() == {}
    assert hook.cache().state.epoch != before


def test_a_server_with_other_files_altogether_begins_a_new_epoch(hook: Hook) -> None:
    hook.xrootd.put("old")
    hook.tell()
    before = hook.cache().state.epoch
    hook.xrootd.remove("old")
    hook.xrootd.put("new")
    hook.tell()
    assert hook.known() == {"new": 7}
    assert hook.cache().state.epoch != before


def test_a_catalog_that_lost_the_node_is_told_all_again(hook: Hook) -> None:
    hook.xrootd.put("a")
    hook.tell()
    assert main(["flush", *(str(word) for word in hook.command()[2:8])]) == 0
    assert hook.known() == {}
    hook.tell()
    assert hook.known() == {"a": 7}


def test_names_follow_the_options(hook: Hook) -> None:
    hook.xrootd.put("mc/x/a.root")
    hook.xrootd.put("mc/y/a.root", b"1")
    done = hook.run_installed()
    assert hook.known() == {}
    assert "2 left out" in done.stdout
    assert "--lfn-depth" in done.stderr
    hook.tell("--lfn-depth", "2")
    assert hook.known() == {"x/a.root": 7, "y/a.root": 1}
    hook.tell("--lfn-depth", "0", "--scope", "mc20")
    assert hook.known() == {"mc20:mc/x/a.root": 7, "mc20:mc/y/a.root": 1}


def test_rucios_layout_names_scope_and_file(hook: Hook) -> None:
    hook.xrootd.put(f"rucio/{rucio_path('user.anna', 'a.root')}")
    hook.xrootd.put("rucio/user/anna/00/00/b.root")
    hook.tell("--rucio", "--scope", "other")
    assert hook.known() == {"user.anna:a.root": 7, "other:b.root": 7}


def test_a_name_that_no_catalog_takes_leaves_the_others_alone(hook: Hook) -> None:
    hook.xrootd.put("good")
    (hook.xrootd.files / os.fsdecode(b"bad\xff")).write_bytes(b"1")
    hook.xrootd.put("what?is=this")
    assert "2 left out" in hook.tell()
    assert hook.known() == {"good": 7}


def test_a_name_that_spoils_the_servers_answer_is_told(hook: Hook) -> None:
    hook.xrootd.put("good")
    hook.tell()
    hook.xrootd.put("line\nbreak")
    done = hook.run()
    assert done.returncode == 5
    assert "XROOTD_FAILED: " in done.stderr
    assert "line break" in done.stderr
    assert hook.known() == {"good": 7}


def test_a_server_that_is_away_is_named_and_nothing_is_taken_back(
    shared_server: PandawnServer, xrootd_factory: XrootdFactory, tmp_path: Path
) -> None:
    hook = Hook(shared_server, xrootd_factory.start(), tmp_path)
    hook.xrootd.put("a")
    hook.tell()
    hook.xrootd.stop()
    done = hook.run()
    assert done.returncode == 5
    assert done.stderr.startswith("pandawn-pcache-hook: XROOTD_UNREACHABLE: cannot list root://")
    assert str(hook.xrootd.port) in done.stderr
    assert hook.known() == {"a": 7}


def test_a_prefix_that_never_was_is_a_mistake(hook: Hook) -> None:
    done = hook.run("--prefix", f"{EXPORT}/typo")
    assert done.returncode == 5
    assert "PREFIX_NOT_FOUND: " in done.stderr
    assert "/atlas/typo" in done.stderr
    done = hook.run("--prefix", "/elsewhere")
    assert "XROOTD_REFUSES: " in done.stderr


def test_a_directory_that_cannot_be_listed_is_not_taken_for_an_empty_one(hook: Hook) -> None:
    hook.xrootd.put("shut/a")
    hook.tell()
    if os.geteuid() != 0:
        pytest.skip("only a server of another user than the test's is shut out")
    (hook.xrootd.files / "shut").chmod(0o700)
    done = hook.run()
    assert done.returncode == 5
    assert "could not list all" in done.stderr
    assert hook.known() == {"a": 7}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--url", "http://x"], "INVALID_URL: 'http://x' does not begin with root://"),
        (["--url", "root://a b"], "INVALID_URL: "),
        (["--prefix", "data"], "INVALID_URL: 'data' is not absolute"),
        (["--state-dir", "/dev/null"], "UNUSABLE_DIRECTORY: "),
    ],
)
def test_wrong_usage_ends_with_2(hook: Hook, options: list[str], complaint: str) -> None:
    done = hook.run(*options)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_without_xrdfs_the_package_is_named(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = hook.run()
    assert done.returncode == 5
    assert "NO_XRDFS: " in done.stderr
    assert "xrootd-client" in done.stderr


class Watch:
    """A watching hook; what it says is in `log`."""

    def __init__(self, hook: Hook, log: Path) -> None:
        self._log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                hook.command("--watch", "--interval", "0.2"),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: text in self._log.read_text(),
            lambda: f"no {text!r}: {self._log.read_text()}",
        )

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
def watches() -> Iterator[list[Watch]]:
    """Watches that end with the test."""
    started: list[Watch] = []
    yield started
    for watch in started:
        watch.process.kill()
        watch.process.wait()


def test_a_watch_sees_files_come_and_go(hook: Hook, watches: list[Watch], tmp_path: Path) -> None:
    hook.xrootd.put("a")
    watches.append(Watch(hook, tmp_path / "log"))
    wait_until(lambda: hook.known() == {"a": 7})
    epoch = hook.cache().state.epoch
    hook.xrootd.put("b", b"1")
    wait_until(lambda: hook.known() == {"a": 7, "b": 1})
    hook.xrootd.remove("a")
    wait_until(lambda: hook.known() == {"b": 1})
    assert hook.cache().state.epoch == epoch
    assert watches[0].end() == 0
    watches[0].wait_for("stopped watching root://")


def test_a_watch_outlives_an_outage_of_xrootd(
    shared_server: PandawnServer,
    xrootd_factory: XrootdFactory,
    watches: list[Watch],
    tmp_path: Path,
) -> None:
    hook = Hook(shared_server, xrootd_factory.start(), tmp_path / "state")
    hook.xrootd.put("a")
    watches.append(Watch(hook, tmp_path / "log"))
    wait_until(lambda: hook.known() == {"a": 7})
    hook.xrootd.kill()
    watches[0].wait_for("the XRootD server does not respond, retrying")
    assert hook.known() == {"a": 7}
    hook.xrootd.put("b")
    hook.xrootd.start()
    wait_until(lambda: hook.known() == {"a": 7, "b": 7})
    watches[0].wait_for("the XRootD server responds again")
    assert watches[0].end(signal.SIGINT) == 0


def test_a_watch_outlives_an_outage_of_the_pandawn_server(
    embedded_server: PandawnServer,
    xrootd: XrootdServer,
    watches: list[Watch],
    tmp_path: Path,
) -> None:
    hook = Hook(embedded_server, xrootd, tmp_path / "state")
    xrootd.put("a")
    watches.append(Watch(hook, tmp_path / "log"))
    wait_until(lambda: hook.known() == {"a": 7})
    embedded_server.kill9()
    xrootd.put("b")
    watches[0].wait_for("the Pandawn server does not respond, retrying")
    # Its catalog was in the process, and is empty now.
    embedded_server.start()
    wait_until(lambda: hook.known() == {"a": 7, "b": 7})
    embedded_server.kill9()
    watches[0].wait_for("the Pandawn server responds again")
    assert watches[0].end() == 0


def test_a_frozen_server_does_not_keep_a_watch_from_ending(
    shared_server: PandawnServer,
    xrootd_factory: XrootdFactory,
    watches: list[Watch],
    tmp_path: Path,
) -> None:
    hook = Hook(shared_server, xrootd_factory.start(), tmp_path / "state")
    hook.xrootd.put("a")
    watches.append(Watch(hook, tmp_path / "log"))
    wait_until(lambda: hook.known() == {"a": 7})
    hook.xrootd.freeze()
    assert watches[0].end(signal.SIGHUP) == 0


def test_an_unreachable_loopback_port_needs_no_server(hook: Hook) -> None:
    done = hook.run(url=f"root://{LOOPBACK}:1")
    assert done.returncode == 5
    assert "XROOTD_UNREACHABLE" in done.stderr
