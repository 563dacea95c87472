"""A transport that nobody has heard of: its plug-in and its line in the table are all that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

import pandawn_transports
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1.dispatcher_pb2 import InputFile
from pandawn_pilot.job.stage_in import StageIn
from pandawn_pilot.stop import Stop as PilotStop
from pandawn_server.domain.catalog.file_version import immutable_scope_problem, is_unique
from pandawn_server.wire.edge import rules
from pandawn_tools.cli.checksums import Wish
from pandawn_tools.cli.inputs import inspect, name_arguments
from pandawn_transports import Publishing, SourceStat, Stored, TransferError, Transport
from pandawn_transports.account import Account
from pandawn_transports.base import TransferFault
from pandawn_transports.stop import Stop
from tests.unit.pilot.factories import make_test_log

URL = "carrier+pigeon://loft.example.org:7/data/mc/a.root"


class PigeonTransport:
    """A storage in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def normal(self, url: str) -> str:
        return url

    def local_path(self, url: str) -> Path | None:
        del url
        return None

    def read_as(self, account: Account) -> Transport:
        del account
        return self

    def checksum(self, url: str, stop: Stop | None = None) -> str:
        del url, stop
        return ""

    def look(self, url: str, stop: Stop | None = None) -> SourceStat:
        del stop
        if url not in self._files:
            raise TransferError(TransferFault.MISSING, f"no pigeon carries {url}")
        return SourceStat(len(self._files[url]), mtime_ns=1_700_000_000 * 10**9)

    def fetch(self, url: str, destination: Path, stop: Stop, checksum: str = "") -> SourceStat:
        del checksum
        source = self.look(url, stop)
        destination.write_bytes(self._files[url])
        return source

    def store(self, source: Path, url: str, how: Publishing) -> Stored:
        how.before_publish()
        self._files[url] = source.read_bytes()
        return Stored(len(self._files[url]), "")


@pytest.fixture
def pigeon(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**pandawn_transports.TRANSPORTS, "carrier+pigeon": PigeonTransport({URL: b"abc"})}
    monkeypatch.setattr(pandawn_transports, "TRANSPORTS", table)


@pytest.mark.usefixtures("pigeon")
def test_the_command_line_names_its_files() -> None:
    (file,) = inspect(name_arguments([URL]), lfn_depth=2, checksum=Wish.AUTOMATIC)
    assert (file.url, file.lfn, file.size_bytes) == (URL, "mc/a.root", 3)
    (sized,) = inspect(name_arguments([f"{URL} 7 adler32:0a"]), lfn_depth=1, checksum=Wish.NEVER)
    assert (sized.size_bytes, sized.checksum) == (7, "adler32:0000000a")


def test_a_file_keeps_its_scheme_where_the_node_sees_it_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Mounted(PigeonTransport):
        def local_path(self, url: str) -> Path | None:
            return tmp_path / url.rpartition("/")[2]

    monkeypatch.setattr(
        pandawn_transports, "TRANSPORTS", {"carrier+pigeon": Mounted({URL: b"abc"})}
    )
    (file,) = inspect(name_arguments([URL]), lfn_depth=1, checksum=Wish.AUTOMATIC)
    assert (file.url, file.size_bytes) == (URL, 3)


@pytest.mark.usefixtures("pigeon")
def test_the_pilot_brings_them(tmp_path: Path) -> None:
    (named,) = inspect(name_arguments([URL]), lfn_depth=1, checksum=Wish.AUTOMATIC)
    item = InputFile(
        url=URL, file=common_pb2.File(lfn="a.root", size_bytes=3, version=named.version)
    )
    StageIn(None, PilotStop(), make_test_log()).bring(item, tmp_path / "a.root")
    assert (tmp_path / "a.root").read_bytes() == b"abc"


def test_the_server_takes_their_urls() -> None:
    assert rules.url_problem(URL) is None
    entry = "mc=carrier+pigeon://loft.example.org:7/data"
    assert immutable_scope_problem(entry) is None
    assert is_unique("mc", "mc/a.root", URL, [entry])
    assert not is_unique("mc", "mc/a.root", URL.replace(":7", ""), [entry])


@pytest.mark.parametrize(
    "url",
    [
        "loft/a",
        "pigeon:a",
        "pigeon:///a",
        "pigeon://me@loft/a",
        "pigeon://loft/a?token=x",
        "pigeon://loft/../a",
        "pigeon://loft/%2e%2e/a",
        "pigeon://loft",
        "file://host/a",
        "1pigeon://loft/a",
    ],
)
def test_a_url_of_any_scheme_names_a_file_and_carries_no_identity(url: str) -> None:
    assert rules.url_problem(url) is not None
