"""Patterns of host names are bounded, and refuse what is not for host names."""

import pytest

from pandawn_server.domain.queues.host_pattern import MAX_NAME_CHARACTERS, compile_host_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        (r"wn\d+\.example\.org", "wn17.example.org", True),
        (r"wn\d+\.example\.org", "xwn17.example.org", False),
        (r"wn\d+\.example\.org", "wn17.example.org.evil.net", False),
        (r"wn\d+\.example\.org", "wn17.example.org\n", False),
        (r"wn\d+\.example\.org", "wn17xexample.org", False),
        (r"wn17", "wn1", False),
        # A half that would match is no match: the alternatives are inside the whole.
        (r"wn1|wn2\.example\.org", "wn1.evil.net", False),
        (r"^wn\d{2,3}$", "wn17", True),
        (r"^wn\d{2,3}$", "wn1717", False),
        (r"WN[A-F0-9]+", "wnab0", True),
        (r".*\.example\.org", ".example.org", True),
        (r".*", "wn\n1", False),
        # The sign for Kelvin is a k where case does not matter.
        (r"k1", "\u212a1", False),
        (r"", "", True),
        (r"", "wn", False),
        (r"(a|b)*c", "ababc", True),
    ],
)
def test_the_whole_name_must_match(pattern: str, name: str, fits: bool) -> None:
    assert compile_host_pattern(pattern).matches(name) is fits


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b",
        r"(a|a)*b",
        r"(a|aa)+b",
        r"(.*)*b",
        r"((a*)*)*b",
        "a?" * 200 + "a" * 300,
        ".*" * 300 + "b",
        "(a|a)" * 100 + "b",
    ],
)
def test_what_takes_other_engines_years_is_matched(pattern: str) -> None:
    assert not compile_host_pattern(pattern).matches("a" * MAX_NAME_CHARACTERS)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a" * 1001, "1001 characters"),
        ("((((a{100}){100}){100}){100}){100}", "repetition"),
        ("*a", "no argument for repetition operator: *"),
        ("(a", "missing ): (a"),
        ("a)", "unexpected ): a)"),
        ("[a", "missing ]: [a"),
        ("[z-a]", "invalid character class range: z-a"),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("wn\\", "trailing \\"),
        ("(?=a)", "invalid perl operator: (?="),
    ],
)
def test_what_cannot_be_matched_in_a_bounded_time_or_is_no_pattern_is_refused(
    pattern: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        compile_host_pattern(pattern)
    assert problem in str(refused.value)


def test_a_text_longer_than_a_name_is_none() -> None:
    assert not compile_host_pattern(".*").matches("a" * (MAX_NAME_CHARACTERS + 1))
