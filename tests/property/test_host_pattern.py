"""Host patterns mean what Python's regular expressions mean, and whatever is written is a pattern or refused."""

import re

from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.domain.queues.host_pattern import compile_host_pattern

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "1",
        ".",
        r"\.",
        r"\d",
        r"\w",
        r"\D",
        "-",
        "[ab]",
        "[^a]",
        "[a-c1]",
        "[a-]",
        "^",
        "$",
    ]
)
COUNTS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?", "??"])


def grown(patterns: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.tuples(st.sampled_from(["(", "(?:"]), patterns, COUNTS).map(
        lambda t: f"{t[0]}{t[1]}){t[2]}"
    )
    return (
        st.lists(patterns, max_size=3).map("".join)
        | st.lists(patterns, min_size=2, max_size=3).map("|".join)
        | groups
    )


SIMPLE = st.tuples(ATOMS, COUNTS).map(lambda t: t[0] if t[0] in "^$" else "".join(t))
PATTERNS = st.recursive(SIMPLE, grown, max_leaves=8)
NAMES = st.text("ab1.-", max_size=7)


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=5))
def test_it_matches_whole_names_as_python_does(pattern: str, names: list[str]) -> None:
    compiled = compile_host_pattern(pattern)
    expected = re.compile(pattern)
    for name in names:
        assert compiled.matches(name) is (expected.fullmatch(name) is not None), (pattern, name)


@given(st.text(max_size=30) | st.text("ab(|)[]{}^$.*+?\\,0129-:=!<>PdwsZ", max_size=30))
def test_any_text_is_a_pattern_or_is_refused(text: str) -> None:
    try:
        compiled = compile_host_pattern(text)
    except ValueError:
        return
    assert compiled.matches("a" * 50) in {True, False}
