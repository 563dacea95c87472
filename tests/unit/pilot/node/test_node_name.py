"""What a node is called where nobody says so: in other case, by a short name, as every container."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pandawn_pilot.node.node_name import NoNodeNameError, node_name


def called(full: str, short: str, cache_dir: Path | None = None, given: str | None = None) -> str:
    return node_name(given, cache_dir, full_name=lambda: full, short_name=lambda: short)


@pytest.mark.parametrize("full", ["WN17.Example.ORG", "wn17.example.org.", "wn17.example.org"])
def test_one_host_has_one_name_however_it_is_written(full: str) -> None:
    assert called(full, "WN17") == "wn17.example.org"


def test_a_name_that_is_given_is_taken() -> None:
    assert called("wn17.example.org", "wn17", given="Rack3-A.") == "rack3-a"
    assert called("localhost", "localhost", given="localhost") == "localhost"


def test_a_host_that_stands_behind_localhost_in_the_hosts_file_has_its_own_name() -> None:
    # `127.0.0.1 localhost.localdomain localhost wn17`, as installers write it.
    assert called("localhost.localdomain", "WN17.example.org") == "wn17.example.org"


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("localhost", "localhost"),
        ("localhost.localdomain", "localhost.localdomain"),
        ("ip6-localhost", "localhost"),
        ("", "(none)"),
    ],
)
def test_a_name_that_every_machine_may_have_is_none(full: str, short: str) -> None:
    with pytest.raises(NoNodeNameError, match="--node"):
        called(full, short)


def test_while_the_name_service_is_away_a_node_keeps_the_name_that_its_cache_remembers(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "scratch" / "cache"
    assert called("wn17.example.org", "wn17", cache) == "wn17.example.org"
    assert called("wn17", "wn17", cache) == "wn17.example.org"
    # Another machine that was given the disk, and one that was renamed, are not what the cache says.
    assert called("wn1", "wn1", cache) == "wn1"
    assert called("wn18.example.org", "wn18", cache) == "wn18.example.org"
    assert called("wn17", "wn17", cache) == "wn17"


def test_a_cache_that_cannot_remember_keeps_no_pilot_from_its_start(tmp_path: Path) -> None:
    (tmp_path / "node-name").mkdir()
    assert called("wn17.example.org", "wn17", tmp_path) == "wn17.example.org"
    assert called("wn17", "wn17", tmp_path) == "wn17"
    (tmp_path / "file").touch()
    assert called("wn17.example.org", "wn17", tmp_path / "file" / "x") == "wn17.example.org"


def test_a_pilot_on_a_machine_called_localhost_asks_for_a_name(tmp_path: Path) -> None:
    pilot = (sys.executable, "-m", "pandawn_pilot.cli", "run", "--work-dir", str(tmp_path))
    command = (*pilot, "--server", "127.0.0.1:1", "--queue", "Q", "--no-cache")
    started = subprocess.run(
        ["unshare", "--uts", "sh", "-c", 'hostname localhost; exec "$@"', "sh", *command],
        check=False,
        capture_output=True,
        text=True,
    )
    if "unshare" in started.stderr:
        pytest.skip("no name space for another host name")
    assert started.returncode == 2
    assert "this machine's name, localhost, is not unique" in started.stderr
