"""The lock file that a site installs from has the same packages as the one that everything is tested with."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def pinned(name: str) -> set[tuple[str, str]]:
    return set(_PINNED.findall((ROOT / name).read_text(encoding="utf-8")))


def test_a_site_gets_the_versions_that_were_tested() -> None:
    site = pinned("requirements-site.lock")
    assert {"grpcio", "sqlalchemy", "typer", "hatchling"} <= {name for name, _ in site}
    # What pip builds with is nowhere in what the tests run on.
    builders = {"hatchling", "pathspec", "pluggy", "trove-classifiers"}
    assert {pin for pin in site - pinned("requirements.lock") if pin[0] not in builders} == set()


def test_no_lock_file_names_a_host() -> None:
    for path in ROOT.glob("requirements*.lock"):
        assert "://" not in path.read_text(encoding="utf-8"), path
