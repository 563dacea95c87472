"""What a payload's account may not read, a pilot that is root does not bring to it: the kernel decides."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pandawn_pilot.node.accounts import AccountRange, OneAccount, SameAccount
from pandawn_pilot.stop import Stop
from pandawn_transports import TransferError, TransferFault, transport_for
from pandawn_transports.account import Account

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can open files as others")
NOBODY = Account(61_200, 61_200, "61200")


@pytest.fixture
def open_dir(tmp_path: Path) -> Path:
    """A directory that every account can reach, unlike pytest's own."""
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o011)
    return tmp_path


def fault_of(path: Path, reader: Account | None, destination: Path) -> TransferFault:
    with pytest.raises(TransferError) as looked:
        transport_for(path.as_uri(), reader).look(path.as_uri())
    with pytest.raises(TransferError) as fetched:
        transport_for(path.as_uri(), reader).fetch(path.as_uri(), destination, Stop())
    assert looked.value.fault is fetched.value.fault
    # Neither size nor existence of what is closed.
    assert str(len("content")) not in str(looked.value).replace(str(path), "")
    return fetched.value.fault


@needs_root
def test_the_modes_of_all_directories_on_the_way_count(open_dir: Path) -> None:
    home = open_dir / "home"
    home.mkdir(mode=0o700)
    (home / "open").write_bytes(b"content")
    (home / "open").chmod(0o644)
    (open_dir / "link").symlink_to(home / "open")
    for path in (home / "open", home / "missing", open_dir / "link"):
        assert fault_of(path, NOBODY, open_dir / "job") is TransferFault.FORBIDDEN
    assert not (open_dir / "job").exists()


@needs_root
@pytest.mark.parametrize(
    ("mode", "owner", "group", "may"),
    [
        (0o644, 0, 0, True),
        (0o640, 0, 0, False),
        (0o400, 61_200, 0, True),
        (0o440, 0, 61_200, True),
        # The owner's own bits count before those of all others.
        (0o044, 61_200, 0, False),
    ],
)
def test_the_mode_of_the_file_is_judged_as_for_the_account(
    open_dir: Path, mode: int, owner: int, group: int, *, may: bool
) -> None:
    path = open_dir / "file"
    path.write_bytes(b"content")
    os.chown(path, owner, group)
    path.chmod(mode)
    if may:
        url = path.as_uri()
        assert transport_for(url, NOBODY).look(url).size_bytes == 7
        transport_for(url, NOBODY).fetch(url, open_dir / "job", Stop())
        assert (open_dir / "job").read_bytes() == b"content"
    else:
        assert fault_of(path, NOBODY, open_dir / "job") is TransferFault.FORBIDDEN


@needs_root
def test_the_pilot_keeps_its_own_rights_meanwhile_and_afterwards(open_dir: Path) -> None:
    path = open_dir / "file"
    path.write_bytes(b"content")
    path.chmod(0o600)
    ended = threading.Event()

    def keep_trying() -> None:
        while not ended.is_set():
            with pytest.raises(TransferError):
                transport_for(path.as_uri(), NOBODY).look(path.as_uri())

    thread = threading.Thread(target=keep_trying)
    thread.start()
    try:
        for _ in range(50):
            assert path.read_bytes() == b"content"
    finally:
        ended.set()
        thread.join()
    assert path.read_bytes() == b"content"


def test_each_kind_of_accounts_names_one_that_reads_what_its_payloads_may(tmp_path: Path) -> None:
    assert SameAccount().reader() is None
    assert OneAccount(NOBODY).reader() == NOBODY
    reader = AccountRange(61_200, 61_210, tmp_path).reader()
    assert reader is not None
    assert 61_200 <= reader.uid <= 61_210
