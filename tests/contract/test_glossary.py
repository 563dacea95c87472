"""docs/glossary.md: its terms are in order, and each is a word of the code or of the contract."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TERM = re.compile(r"^- \*\*(?P<term>[a-z ]+)\*\*: (?P<meaning>.+)$", re.MULTILINE)
_SECTIONS = (ROOT / "docs" / "glossary.md").read_text().split("\n## ")[1:]
SECTIONS = {
    text.partition("\n")[0]: [match["term"] for match in _TERM.finditer(text)] for text in _SECTIONS
}
TERMS = [term for terms in SECTIONS.values() for term in terms]


@pytest.fixture(scope="module")
def source() -> str:
    """All that is written in the project's own code and contracts, in lower case."""
    files = [
        *ROOT.glob("proto/**/*.proto"),
        *(
            path
            for root in ("server", "pilot_client", "tools")
            for path in ROOT.glob(f"{root}/**/*.py")
        ),
    ]
    return "\n".join(path.read_text().lower() for path in files)


@pytest.mark.parametrize("section", SECTIONS)
def test_terms_are_in_alphabetical_order(section: str) -> None:
    assert len(SECTIONS[section]) > 20
    assert [pair for pair in pairwise(SECTIONS[section]) if pair[0] >= pair[1]] == []


def test_each_line_of_the_glossary_defines_a_term() -> None:
    lines = [line for text in _SECTIONS for line in text.splitlines()[1:] if line.strip()]
    assert [line for line in lines if not _TERM.match(line)] == []


def test_each_term_is_used(source: str) -> None:
    # As a word of its own, or the first part of one: `leases`, `renewed`, `fair_share`.
    unused = [
        term
        for term in TERMS
        if not re.search(r"(?<![a-z])" + term.replace(" ", "[ _-]").removesuffix("e"), source)
    ]
    assert unused == []
