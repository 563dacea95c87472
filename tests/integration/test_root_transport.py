"""The transport of `root://` against real XRootD servers: whole files with the right bytes, or none."""

from __future__ import annotations

import resource
import shutil
import threading
import zlib
from pathlib import Path

import pytest

from pandawn_pilot.stop import Stop, StoppedError, StopReason
from pandawn_transports import (
    Publishing,
    Stored,
    TransferError,
    TransferFault,
    transport_for,
)
from pandawn_transports.root import RootTransport
from pandawn_transports.xrootd.command import XrootdError, XrootdFault, run
from tests.fixtures.ports import LOOPBACK
from tests.fixtures.xrootd import XrootdFactory, XrootdServer

CONTENT = b"some content" * 1000
ODD_NAME = "sub dir/a b'c\"%20#ż.root"


def fetch(url: str, destination: Path, checksum: str = "") -> bytes:
    transport_for(url).fetch(url, destination, Stop(), checksum)
    return destination.read_bytes()


def fault_of(url: str, destination: Path) -> TransferFault:
    with pytest.raises(TransferError) as failure:
        fetch(url, destination)
    assert url.partition("?")[0] in str(failure.value)
    return failure.value.fault


def store(source: Path, url: str, before_publish: object = None, owner: str = "17-2") -> Stored:
    confirm = before_publish if callable(before_publish) else lambda: None
    return RootTransport().store(source, url, Publishing(owner, confirm, Stop()))


def names_in(xrootd: XrootdServer, directory: str = ".") -> list[str]:
    return sorted(path.name for path in (xrootd.files / directory).iterdir())


@pytest.mark.parametrize("name", ["a.root", ODD_NAME])
@pytest.mark.parametrize("content", [CONTENT, b""], ids=["full", "empty"])
def test_a_file_arrives_whole_over_whatever_was_there(
    xrootd: XrootdServer, tmp_path: Path, name: str, content: bytes
) -> None:
    url = xrootd.put(name, content)
    assert transport_for(url).look(url).size_bytes == len(content)
    (tmp_path / "here?it=is").write_bytes(b"older and longer" * 1000)
    assert fetch(url, tmp_path / "here?it=is") == content
    store(tmp_path / "here?it=is", f"{xrootd.top}/back/{name}")
    assert (xrootd.files / "back" / name).read_bytes() == content


def test_a_server_without_checksums_serves_all_the_same(
    xrootd_factory: XrootdFactory, tmp_path: Path
) -> None:
    xrootd = xrootd_factory.start()
    assert fetch(xrootd.put("a", CONTENT), tmp_path / "a") == CONTENT
    store(tmp_path / "a", f"{xrootd.top}/b")
    assert (xrootd.files / "b").read_bytes() == CONTENT


def test_without_a_record_the_copy_is_compared_with_the_servers_checksum(
    xrootd_factory: XrootdFactory, tmp_path: Path
) -> None:
    liar = xrootd_factory.root / "liar"
    liar.write_text("#!/bin/sh\necho 00000001\n")
    liar.chmod(0o755)
    xrootd = xrootd_factory.start(f"xrootd.chksum adler32 {liar}")
    url = xrootd.put("a", CONTENT)
    assert fault_of(url, tmp_path / "a") is TransferFault.CORRUPT
    # Whoever has a record checks against that.
    assert fetch(url, tmp_path / "a", f"adler32:{zlib.adler32(CONTENT):08x}") == CONTENT


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        (f"{LOOPBACK}:0//atlas/a", TransferFault.NO_TRANSPORT),
        (f"{LOOPBACK}//atlas/a?b=c", TransferFault.NO_TRANSPORT),
        (f"{LOOPBACK}/atlas/a", TransferFault.NO_TRANSPORT),
        (f"{LOOPBACK}:1//atlas/a", TransferFault.UNAVAILABLE),
    ],
)
def test_a_url_that_leads_nowhere_is_told(tmp_path: Path, path: str, fault: TransferFault) -> None:
    assert fault_of(f"root://{path}", tmp_path / "a") is fault
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_had_is_told_apart(xrootd: XrootdServer, tmp_path: Path) -> None:
    xrootd.put("dir/a")
    assert fault_of(f"{xrootd.top}/none", tmp_path / "a") is TransferFault.MISSING
    assert fault_of(f"{xrootd.top}/dir", tmp_path / "a") is TransferFault.FORBIDDEN
    assert fault_of(f"{xrootd.url}//elsewhere/a", tmp_path / "a") is TransferFault.FORBIDDEN


def test_a_copy_that_the_disk_cuts_short_is_noticed(xrootd: XrootdServer, tmp_path: Path) -> None:
    url = xrootd.put("a", b"x" * 1_000_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Like a full disk, on which xrdcp stops and ends with status 0.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        fault = fault_of(url, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert fault in (TransferFault.OTHER, TransferFault.FULL)


def test_a_command_that_takes_too_long_is_ended() -> None:
    with pytest.raises(XrootdError, match="cannot sleep: no result after 0 s") as failure:
        run(["sleep", "600"], "cannot sleep", seconds=0.1)
    assert failure.value.fault is XrootdFault.UNREACHABLE


def test_a_node_without_xrdcp_has_no_transport(
    xrootd: XrootdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = xrootd.put("a")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fault_of(url, tmp_path / "a") is TransferFault.NO_TRANSPORT


def test_a_stop_ends_a_transfer_from_a_frozen_server(
    xrootd_factory: XrootdFactory, tmp_path: Path
) -> None:
    xrootd = xrootd_factory.start()
    url = xrootd.put("a")
    xrootd.freeze()
    stop = Stop()
    threading.Timer(0.5, stop.request, [StopReason.CANCELLED]).start()
    with pytest.raises(StoppedError):
        RootTransport().fetch(url, tmp_path / "a", stop)


def test_a_stored_file_appears_at_once_and_replaces_what_was_there(
    xrootd: XrootdServer, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(CONTENT)
    target = xrootd.files / "2026" / "out"
    seen: list[tuple[bool, list[int]]] = []

    def look() -> None:
        sizes = [path.stat().st_size for path in target.parent.glob(".pandawn-parts/*")]
        seen.append((target.exists(), sizes))

    store(tmp_path / "out", f"{xrootd.top}/2026/out", look)
    assert seen == [(False, [len(CONTENT)])]
    assert target.read_bytes() == CONTENT
    (tmp_path / "out").write_bytes(b"second")
    store(tmp_path / "out", f"{xrootd.top}/2026/out")
    assert target.read_bytes() == b"second"
    assert names_in(xrootd, "2026") == ["out"]


def test_without_a_lease_nothing_is_stored(xrootd: XrootdServer, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(CONTENT)

    def refuse() -> None:
        raise StoppedError(StopReason.STALE)

    with pytest.raises(StoppedError):
        store(tmp_path / "out", f"{xrootd.top}/out", refuse)
    assert names_in(xrootd) == []


def test_what_other_attempts_and_jobs_left_of_the_same_file_is_removed_before_it_is_published(
    xrootd: XrootdServer, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(CONTENT)
    parts = xrootd.files / ".pandawn-parts"
    seen: list[list[str]] = []

    def leave_a_part() -> None:
        (part,) = parts.iterdir()
        mark = part.name.partition(".")[0]
        for left in (f"{mark}.9-1.aa", "0123456789ab.9-1.aa"):
            (parts / left).write_bytes(b"part")
            shutil.chown(parts / left, parts.stat().st_uid)

    def look() -> None:
        seen.append(sorted(path.name.partition(".")[2][:5] for path in parts.iterdir()))

    store(tmp_path / "out", f"{xrootd.top}/out", leave_a_part)
    store(tmp_path / "out", f"{xrootd.top}/out", look, owner="18-1")
    # That of another file may be under way.
    assert seen == [["18-1.", "9-1.a"]]
    assert names_in(xrootd) == [".pandawn-parts", "out"]


def test_a_part_that_the_next_attempt_has_swept_is_never_published(
    xrootd: XrootdServer, tmp_path: Path
) -> None:
    (tmp_path / "loser").write_bytes(b"loser")
    (tmp_path / "winner").write_bytes(b"winner")

    def let_another_win() -> None:
        store(tmp_path / "winner", f"{xrootd.top}/out", owner="18-1")

    with pytest.raises(TransferError) as failure:
        store(tmp_path / "loser", f"{xrootd.top}/out", let_another_win)
    assert failure.value.fault is TransferFault.OTHER
    assert (xrootd.files / "out").read_bytes() == b"winner"
    assert names_in(xrootd) == ["out"]


def test_a_place_that_must_not_be_written_is_told(xrootd: XrootdServer, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(CONTENT)
    with pytest.raises(TransferError) as failure:
        store(tmp_path / "out", f"{xrootd.url}//elsewhere/out")
    assert failure.value.fault is TransferFault.FORBIDDEN
