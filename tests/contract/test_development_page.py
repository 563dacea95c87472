"""docs/development.md is followed by those who do not know the house: what it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "development.md").read_text(encoding="utf-8")
ROOTS = ("", "server/pandawn_server/", "pilot_client/", "tools/pandawn_tools/")
PATHS = sorted(
    path
    for path in set(re.findall(r"`([\w./-]+/[\w./-]*)`", PAGE))
    if not path.startswith("pandawn.")
)
RECIPES = [part for part in PAGE.split("\n## ")[1:] if not part.startswith("The map")]
TESTS = sorted(
    {
        arg
        for args in re.findall(r'make test ARGS="([^"]+)"', PAGE)
        for arg in shlex.split(args)
        if arg.startswith("tests/")
    }
)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_named_is_there(path: str) -> None:
    assert any((REPOSITORY / root / path).exists() for root in ROOTS)


@pytest.mark.parametrize("path", TESTS)
def test_a_test_that_is_named_is_there(path: str) -> None:
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.partition("\n")[0])
def test_a_recipe_says_what_shows_that_it_was_followed(recipe: str) -> None:
    assert "*Followed?*" in recipe


def test_every_room_stands_in_the_map() -> None:
    rooms = {
        path.parent.name
        for path in (REPOSITORY / "server/pandawn_server/usecases").glob("*/__init__.py")
    }
    assert rooms == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
