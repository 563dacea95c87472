"""No job gets bytes that its submitter did not name, whatever becomes of the files; and equal ones do hit.

Files have few names, sizes and contents, so that they are easily taken for each other. They are
rewritten in place (also with their times set back), replaced, linked, renamed, re-pointed, closed to
one of two users. Each job names a file as its submitter saw it: with a checksum, a weak one, or by its
time and inode; or, as an old client does, with nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pandawn.common.v1.common_pb2 import File
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn_client.file_version import file_version
from pandawn_pilot.cache.node_cache import NodeCache
from pandawn_pilot.cache.room import CacheLimits
from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.job.stage_in import StageIn
from pandawn_pilot.stop import Stop
from pandawn_transports.account import Account
from tests.unit.pilot.factories import make_test_log

IS_ROOT = os.geteuid() == 0
USERS = (Account(61_301, 61_301, "ann"), Account(61_302, 61_302, "bob"))
DIRECTORIES = st.sampled_from(["one", "two", "link"])
NAMES = st.just("f")
CONTENTS = st.sampled_from([b"aaaa", b"bbbb", b"cccc", b"dd"])
KINDS = st.sampled_from(["sha256", "adler32", "mtime", "nothing"])
# Failures that are right: the file is gone, closed, or another.
HONEST = {"INPUT_CHANGED", "INPUT_MISSING", "INPUT_UNREADABLE", "INPUT_SIZE_MISMATCH"}


@dataclass(frozen=True)
class Named:
    """An input as a submitter named it, and the content that he meant; None: whatever is there."""

    item: InputFile
    content: bytes | None


class Files(RuleBasedStateMachine):
    """One node with one cache, two users, and a file system that they share."""

    named: list[Named]

    @initialize()
    def begin(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="pandawn-identity-"))
        self.top.chmod(0o755)
        for name in ("one", "two"):
            (self.top / name).mkdir(mode=0o755)
        (self.top / "link").symlink_to("one")
        self.cache = self.open_cache()
        self.named = []
        self.count = 0
        for directory in ("one", "two"):
            self.path(directory, "f").write_bytes(b"aaaa")
        for directory in ("one", "two", "link"):
            for kind in ("sha256", "adler32", "mtime", "nothing"):
                self.name_input(directory, "f", kind)

    def teardown(self) -> None:
        if hasattr(self, "top"):
            shutil.rmtree(self.top)

    def open_cache(self) -> NodeCache:
        return NodeCache(self.top / "cache", CacheLimits(10**9, 10**9), make_test_log())

    def path(self, directory: str, name: str) -> Path:
        return self.top / directory / name

    @rule(directory=DIRECTORIES, name=NAMES, content=CONTENTS, mode=st.sampled_from([0o644, 0o600]))
    def write_anew(self, directory: str, name: str, content: bytes, mode: int) -> None:
        path = self.path(directory, name)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(mode)

    @rule(directory=DIRECTORIES, name=NAMES, content=CONTENTS, hidden=st.booleans())
    def rewrite_in_place(self, directory: str, name: str, content: bytes, *, hidden: bool) -> None:
        self.rewrite(self.path(directory, name), content, hidden=hidden)

    def rewrite(self, path: Path, content: bytes, *, hidden: bool) -> None:
        if not path.exists():
            return
        before = path.stat()
        # The clock of a file system ticks; two changes in one tick are one to everybody.
        time.sleep(0.012)
        with path.open("r+b") as stream:
            stream.write(content)
            stream.truncate()
        if hidden:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    @rule(
        old_name=st.tuples(DIRECTORIES, NAMES),
        new_name=st.tuples(DIRECTORIES, NAMES),
        how=st.sampled_from(["rename", "hard link", "symbolic link", "copy with times"]),
    )
    def put_over(self, old_name: tuple[str, str], new_name: tuple[str, str], how: str) -> None:
        old, new = self.path(*old_name), self.path(*new_name)
        if not old.exists() or os.path.realpath(old) == os.path.realpath(new):
            return
        fresh = self.top / "fresh"
        if how == "rename":
            old.rename(new)
            return
        if how == "hard link":
            os.link(os.path.realpath(old), fresh)
        elif how == "symbolic link":
            fresh.symlink_to(os.path.realpath(old))
        else:
            shutil.copy2(old, fresh)
        fresh.replace(new)

    @rule(directory=st.sampled_from(["one", "two"]))
    def repoint_directory(self, directory: str) -> None:
        fresh = self.top / "fresh"
        fresh.symlink_to(directory)
        fresh.replace(self.top / "link")

    @rule(directory=DIRECTORIES, name=NAMES, user=st.sampled_from([0, *(u.uid for u in USERS)]))
    def give_away(self, directory: str, name: str, user: int) -> None:
        path = self.path(directory, name)
        if IS_ROOT and path.exists():
            os.chown(path, user, user)
            path.chmod(0o600)

    @rule(directory=DIRECTORIES, name=NAMES, kind=KINDS)
    def submit(self, directory: str, name: str, kind: str) -> None:
        self.name_input(directory, name, kind)

    def name_input(self, directory: str, name: str, kind: str) -> None:
        path = self.path(directory, name)
        try:
            content, status = path.read_bytes(), path.stat()
        except FileNotFoundError:
            return
        url = path.as_uri()
        checksum, version = "", ""
        if kind == "sha256":
            checksum = f"sha256:{sha256(content).hexdigest()}"
        elif kind == "adler32":
            checksum = f"adler32:{zlib.adler32(content):08x}"
        if checksum:
            version = file_version(url, checksum=checksum)
        elif kind == "mtime":
            version = file_version(url, modify_time_ns=status.st_mtime_ns, inode=status.st_ino)
        file = File(lfn=name, size_bytes=len(content), checksum=checksum, version=version)
        item = InputFile(file=file, url=url)
        # A time that was set back, with the content changed, is what nobody can tell at submission.
        self.named.append(Named(item, content if checksum else None))

    @precondition(lambda self: self.named)
    @rule(
        data=st.data(),
        users=st.tuples(st.sampled_from(USERS), st.sampled_from(USERS)),
        content=CONTENTS,
        hidden=st.booleans(),
    )
    def run_rewrite_and_run(
        self, data: st.DataObject, users: tuple[Account, Account], content: bytes, *, hidden: bool
    ) -> None:
        named = data.draw(st.sampled_from(self.named))
        self.run_job(named, users[0])
        self.rewrite(Path(named.item.url.removeprefix("file://")), content, hidden=hidden)
        self.run_job(named, users[1])

    @precondition(lambda self: self.named)
    @rule(data=st.data(), user=st.sampled_from(USERS))
    def run(self, data: st.DataObject, user: Account) -> None:
        self.run_job(data.draw(st.sampled_from(self.named)), user)

    def run_job(self, named: Named, user: Account) -> None:
        """Runs a job twice: what it gets is right, and the second time the cache has it."""
        path = Path(named.item.url.removeprefix("file://"))
        now, allowed = self.look(path, user)
        self.count += 1
        job = self.top / f"job{self.count}"
        stage_in = StageIn(self.cache, Stop(), make_test_log(), reader=user if IS_ROOT else None)
        failure = None
        try:
            stage_in.bring(named.item, job)
        except JobFailedError as failed:
            failure = failed
        if failure is not None:
            assert failure.fault.reason in HONEST, failure
            assert not job.exists()
            # What is there, readable, and as it was named has to be brought.
            assert not (allowed and now is not None and now == named.content), failure
            return
        got = job.read_bytes()
        assert allowed, f"{user.name} got {got!r}, which he may not read"
        if named.content is not None:
            assert got == named.content
        else:
            # Named by its time, or by nothing: it is at least what is there now.
            assert got == now
        job.unlink()
        again = StageIn(self.cache, Stop(), make_test_log(), reader=user if IS_ROOT else None)
        again.bring(named.item, job)
        assert job.read_bytes() == got
        assert again.sums.bytes_from_cache == len(got), "an equal version has to hit"
        job.unlink()

    @rule()
    def restart_pilot(self) -> None:
        self.cache = self.open_cache()
        self.cache.heal()

    def look(self, path: Path, user: Account) -> tuple[bytes | None, bool]:
        """What is at a path now, and whether a user may read it."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None, True
        allowed = not IS_ROOT or bool(status.st_mode & 0o004) or status.st_uid == user.uid
        return path.read_bytes(), allowed


TestFiles = Files.TestCase
TestFiles.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
