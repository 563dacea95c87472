"""The accounts of payloads: if the pilot is root, others than the pilot's.

Each payload's own account comes from a range of unused user numbers. Pilots of a node lock the numbers
in `LOCKS`, so that no two payloads share one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pandawn_pilot.errors import NO_ACCOUNT, JobFailedError
from pandawn_pilot.node import locks
from pandawn_pilot.node.account_leftovers import remove_leftovers
from pandawn_transports.account import Account

_PROBES = 3
"""How often it is tried whether an account can enter a directory, while the shell is killed."""

# The range of systemd's dynamic users (see nss-systemd), which no one else uses.
DEFAULT_RANGE = (61184, 65519)
# The option's value for the pilot's own account.
SAME = "same"
# Not the server's runtime directory, which systemd removes with the service.
LOCKS = Path("/run/pandawn-pilot")
_LARGEST = 2**32 - 2
# Suffix of the file that marks a lent number.
_MARK = ".lent"
# A process that survives SIGKILL waits for a hanging disk.
_KILL_PATIENCE_SECONDS = 10.0


class AccountError(Exception):
    """Payloads cannot run under the chosen account; the message says what to do."""


@dataclass(frozen=True)
class AccountChoice:
    """The value of `--payload-user`: a name, or the first and last number of a range."""

    name: str = ""
    first: int = 0
    last: int = 0


class Accounts(Protocol):
    """Lends accounts to payloads."""

    def borrow(self) -> AbstractContextManager[Account | None]:
        """Lends an account for one payload; None: the pilot's own. Raises JobFailedError."""
        ...

    def reader(self) -> Account | None:
        """An account with the same read rights as those of payloads; None: the pilot's own."""
        ...


def parse_choice(text: str) -> AccountChoice:
    """Parses `NAME`, `UID` or `FIRST-LAST`. Raises ValueError with a message for users."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        return AccountChoice(name=text)
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= _LARGEST:
        raise ValueError(f"{text!r} is not a user number above 0, nor a range of them")
    return AccountChoice(first=first, last=last)


def open_accounts(choice: AccountChoice | None, max_jobs: int) -> Accounts:
    """The accounts for a choice; without one, each payload of root gets its own account.

    Raises AccountError.
    """
    if choice is not None and choice.name == SAME:
        return SameAccount()
    if os.geteuid() != 0:
        if choice is None:
            return SameAccount()
        raise AccountError(
            "--payload-user requires a pilot that runs as root; run it as root, or leave the option"
            " out"
        )
    if choice is None:
        first, last = DEFAULT_RANGE
        return AccountRange(first, last)
    if choice.name:
        return OneAccount(_named(choice.name))
    if choice.first == choice.last:
        return OneAccount(account_of(choice.first))
    if choice.last - choice.first + 1 < max_jobs:
        raise AccountError(
            f"--payload-user {choice.first}-{choice.last} has fewer accounts than"
            f" --max-jobs {max_jobs} needs; give a longer range"
        )
    return AccountRange(choice.first, choice.last)


def account_of(uid: int) -> Account:
    """The account with a number, which the node need not know."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(uid, uid, str(uid))
    return Account(uid, entry.pw_gid, entry.pw_name)


class SameAccount:
    """Payloads run under the pilot's account."""

    @contextmanager
    def borrow(self) -> Iterator[Account | None]:
        """See Accounts."""
        yield None

    def reader(self) -> Account | None:
        """See Accounts."""
        return None


class OneAccount:
    """All payloads share one account, separate from the pilot's."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @contextmanager
    def borrow(self) -> Iterator[Account | None]:
        """See Accounts."""
        yield self._account

    def reader(self) -> Account | None:
        """See Accounts."""
        return self._account


class AccountRange:
    """Each payload runs under its own user number; its leftovers are removed at the end.

    A lent number has a mark beside its lock. After a pilot was killed, the next pilot that lends a number
    finds the mark and cleans up.
    """

    def __init__(
        self,
        first: int,
        last: int,
        lock_directory: Path = LOCKS,
        places: list[Path] | None = None,
    ) -> None:
        self._numbers = range(first, last + 1)
        self._locks = lock_directory
        # Where to search for leftovers; None: all world-writable directories.
        self._places = places

    @contextmanager
    def borrow(self) -> Iterator[Account | None]:
        """See Accounts."""
        try:
            self._locks.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise JobFailedError(NO_ACCOUNT, f"cannot create {self._locks}: {error}") from error
        self._clear_forgotten()
        for uid in random.sample(self._numbers, len(self._numbers)):
            if _is_somebodys(uid):
                continue
            with locks.attempt(self._locks / str(uid)) as held:
                if not held or processes_of(uid):
                    continue
                # Leftovers from before a reboot have no mark.
                remove_leftovers(uid, self._places)
                mark = self._locks / f"{uid}{_MARK}"
                mark.touch(mode=0o600)
                try:
                    yield Account(uid, uid, str(uid), made=True)
                finally:
                    self._clear(uid, mark)
                return
        first, last = self._numbers[0], self._numbers[-1]
        raise JobFailedError(
            NO_ACCOUNT,
            f"all user numbers {first}-{last} are in use; give a longer --payload-user range",
        )

    def _clear(self, uid: int, mark: Path) -> None:
        end_processes_of(uid)
        remove_leftovers(uid, self._places)
        mark.unlink(missing_ok=True)

    def _clear_forgotten(self) -> None:
        for mark in self._locks.glob(f"*{_MARK}"):
            number = mark.name.removesuffix(_MARK)
            if not number.isdecimal() or _is_somebodys(int(number)):
                continue
            with locks.attempt(self._locks / number) as held:
                if held and mark.exists():
                    self._clear(int(number), mark)

    def reader(self) -> Account | None:
        """See Accounts. All unused numbers have the same rights."""
        free = (uid for uid in self._numbers if not _is_somebodys(uid))
        uid = next(free, self._numbers[0])
        return Account(uid, uid, str(uid))


def check_account(accounts: Accounts, directory: Path) -> None:
    """Raises AccountError unless payloads can start under their account below `directory`."""
    try:
        with accounts.borrow() as account:
            if account is None:
                return
            probe = Path(tempfile.mkdtemp(prefix="probe-", dir=directory))
            try:
                os.chown(probe, account.uid, account.gid)
                obstacle = _obstacle_to_enter(account, probe)
            finally:
                probe.rmdir()
    except JobFailedError as failure:
        raise AccountError(failure.text) from failure
    except (OSError, subprocess.SubprocessError) as error:
        raise AccountError(
            f"this process cannot run payloads under another account ({error});"
            f" to run them under the pilot's, use --payload-user {SAME}"
        ) from error
    if obstacle:
        raise AccountError(
            f"payloads run under account {account.name}, which cannot enter {directory} ({obstacle}): make all"
            " directories above it traversable (chmod o+x), choose another --work-dir, or run"
            f" payloads as root with --payload-user {SAME}"
        )


def _obstacle_to_enter(account: Account, directory: Path) -> str:
    """Why the account cannot enter a directory; empty if it can."""
    status, text = -1, ""
    # A shell that is killed has not answered.
    for _ in range(_PROBES):
        done = subprocess.run(
            ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(directory)],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        status, text = done.returncode, done.stderr.decode(errors="replace").strip()
        if status >= 0:
            break
    return "" if status == 0 else text or f"the shell ended with status {status}"


def processes_of(uid: int) -> list[int]:
    """Numbers of the processes that run under a user number."""
    found: list[int] = []
    for item in os.scandir("/proc"):
        if not item.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # The directory of a process that hides its memory belongs to root, so check its real uid, too.
            # Zombies do not run any more.
            if (item.stat().st_uid == uid or _real_uid(item.path) == uid) and not _has_ended(
                item.path
            ):
                found.append(int(item.name))
    return found


def end_processes_of(uid: int) -> None:
    """Kills the processes of a user number until none is left."""
    deadline = time.monotonic() + _KILL_PATIENCE_SECONDS
    while (left := processes_of(uid)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _named(name: str) -> Account:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise AccountError(
            f"--payload-user {name}: this node has no such account; use an existing one, a number,"
            f" a range of numbers, or {SAME}"
        ) from None
    if entry.pw_uid == 0:
        raise AccountError(
            f"--payload-user {name} is root, so payloads could read all; to accept that, use {SAME}"
        )
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _is_somebodys(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _has_ended(process: str) -> bool:
    text = Path(process, "stat").read_bytes()
    return text[text.rindex(b")") + 2 :].startswith((b"Z", b"X"))


def _real_uid(process: str) -> int | None:
    for line in Path(process, "status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return None
