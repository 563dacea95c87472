"""Processes that touch storage for the pilot: replaced when they hang, bounded, told to people."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports import (
    Publishing,
    TransferError,
    TransferFault,
    helpers,
    transport_for,
)
from pandawn_transports.file import FileTransport, path_of
from pandawn_transports.helpers import Helpers

ODD_NAMES = [
    b"a b%20c#d?e.dat",
    b"line\nbreak",
    b"\xff\xfe not UTF-8",
    "é日本".encode(),
    b"-rf",
    b"$HOME;`x`'\"",
    b"n" * 255,
    b"..a",
]


@pytest.fixture
def own() -> Iterator[Helpers]:
    """Helpers of the test's own."""
    made = Helpers()
    yield made
    made.close()


def publishing(stop: Stop | None = None) -> Publishing:
    return Publishing("17-1", lambda: None, stop or Stop())


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("content", [b"", b"content"], ids=["empty", "full"])
def test_a_name_may_be_any_bytes_on_the_way_in_and_out(
    tmp_path: Path, name: bytes, content: bytes
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(content)
    url = path.as_uri()
    assert transport_for(url).look(url).size_bytes == len(content)
    transport_for(url).fetch(url, tmp_path / "here", Stop())
    assert (tmp_path / "here").read_bytes() == content
    target = tmp_path / "stored" / path.name
    transport_for(url).store(tmp_path / "here", target.as_uri(), publishing())
    assert target.read_bytes() == content
    assert [os.fsencode(path.name) for path in (tmp_path / "stored").iterdir()] == [name]


@pytest.mark.parametrize(
    "url",
    ["file:///d/a#b", "file:///d/a?b", "file:///d/a?", "file:///d/a#", "file:///d/a%00b"],
)
def test_a_url_of_which_a_part_would_be_dropped_names_no_file(url: str) -> None:
    with pytest.raises(TransferError) as failure:
        path_of(url)
    assert failure.value.fault is TransferFault.NO_TRANSPORT


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """Something that hangs whoever opens it to write: a pipe that nobody reads."""
    path = tmp_path / "hanging"
    os.mkfifo(path)
    return path


def test_a_stop_frees_the_thread_of_a_transfer_that_hangs(
    tmp_path: Path, hanging: Path, own: Helpers
) -> None:
    (tmp_path / "in").write_bytes(b"x")
    stop = Stop()
    threading.Timer(0.3, stop.request, [StopReason.CANCELLED]).start()
    with pytest.raises(StoppedError):
        FileTransport(helpers=own).fetch((tmp_path / "in").as_uri(), hanging, stop)


def test_a_transfer_that_stands_still_is_given_up_and_the_storage_named(
    tmp_path: Path, hanging: Path, own: Helpers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(helpers, "STILL_SECONDS", 0.3)
        with pytest.raises(TransferError, match="does not respond: given up") as failure:
            FileTransport(helpers=own).fetch((tmp_path / "in").as_uri(), hanging, Stop())
    assert failure.value.fault is TransferFault.UNAVAILABLE
    # Another process does what comes next.
    FileTransport(helpers=own).fetch((tmp_path / "in").as_uri(), tmp_path / "job", Stop())
    assert (tmp_path / "job").read_bytes() == b"x"


class Immortal:
    """A helper that is left behind: the kernel does not let it die."""

    def __init__(self) -> None:
        self.is_gone = False

    def has_ended(self) -> bool:
        return self.is_gone


def test_of_a_storage_where_many_hang_no_more_is_asked_until_they_have_ended(
    tmp_path: Path, own: Helpers
) -> None:
    url = (tmp_path / "in").as_uri()
    (tmp_path / "in").write_bytes(b"x")
    where = str(Path(*tmp_path.parts[:3]))
    left_behind = [Immortal() for _ in range(helpers.MAX_HANGING_AT_ONE)]
    own.hanging.extend((helper, where) for helper in left_behind)
    with pytest.raises(TransferError, match="8 transfers hang there") as failure:
        FileTransport(helpers=own).look(url)
    assert failure.value.fault is TransferFault.UNAVAILABLE
    left_behind[0].is_gone = True
    assert FileTransport(helpers=own).look(url).size_bytes == 1
    assert own.hanging_at(where) == helpers.MAX_HANGING_AT_ONE - 1
    assert own.hanging_at("/elsewhere") == 0


def test_a_helper_that_somebody_has_killed_is_replaced(tmp_path: Path, own: Helpers) -> None:
    (tmp_path / "in").write_bytes(b"x")
    transport = FileTransport(helpers=own)
    transport.look((tmp_path / "in").as_uri())
    (helper,) = own.idle
    helper.process.kill()
    helper.process.wait()
    assert transport.look((tmp_path / "in").as_uri()).size_bytes == 1


def test_helpers_serve_one_after_the_other_and_few_wait(tmp_path: Path, own: Helpers) -> None:
    (tmp_path / "in").write_bytes(b"x")
    transport = FileTransport(helpers=own)

    def look() -> None:
        transport.look((tmp_path / "in").as_uri())

    for _ in range(5):
        look()
    assert len(own.idle) == 1
    threads = [threading.Thread(target=look) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(own.idle) <= helpers.MAX_IDLE


def test_without_its_pilot_a_helper_ends_and_publishes_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x")
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pandawn_pilot.stop import Stop\n"
        "from pandawn_transports import Publishing, transport_for\n"
        "source, target = map(Path, sys.argv[1:])\n"
        "how = Publishing('17-1', lambda: os._exit(9), Stop())\n"
        "transport_for('file:').store(source, target.as_uri(), how)\n"
    )
    target = tmp_path / "ds" / "out"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out"), str(target)], check=False
    )
    assert ended.returncode == 9
    deadline = time.monotonic() + 30
    while target.parent.exists() and list(target.parent.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not target.exists()
