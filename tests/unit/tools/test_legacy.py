"""Values of schedconfig and CRIC in today's terms."""

import pytest
from google.protobuf.duration_pb2 import Duration

from pandawn_tools.queuefiles.legacy import Json, convert
from pandawn_tools.queuefiles.parameters import Value, old_names

MIB = 1024**2


def today(old_name: str, value: Json) -> Value | None:
    parameter, old = old_names()[old_name][0]
    return convert(parameter, old, value).value


@pytest.mark.parametrize(
    ("old_name", "value", "expected"),
    [
        ("maxinputsize", 14336, 14336 * MIB),
        ("maxinputsize", "14336", 14336 * MIB),
        ("maxinputsize", 14336.5, 14336 * MIB + MIB // 2),
        ("maxinputsize", "14336 MiB", 14336 * MIB),
        ("maxwdir", 16336, 16336 * MIB),
        ("maxrss", 2000, 2000 * MIB),
        ("timefloor", 60, Duration(seconds=3600)),
        ("maxtime", 172800, Duration(seconds=172800)),
        ("corecount", 8, 8),
        ("corepower", 11.25, 11.25),
        ("status", "BrokerOff", 4),
        ("status", "obsolete", 2),
        ("status", "paused", 5),
        ("glexec", "uid", 2),
        ("glexec", True, 2),
        ("glexec", "False", 3),
        ("retry", "FALSE", False),
        ("retry", " no ", False),
        ("retry", "TRUE", True),
        ("retry", 0, False),
        ("allow_wan", True, True),
        ("cloud", " US ", "US"),
        ("comment", "two\nlines", "two lines"),
        ("allowedNode", r"wn\d+\.example\.org", r"wn\d+\.example\.org"),
        ("allowedNode", "a.*, b.*", "(?:a.*)|(?:b.*)"),
        ("releases", ["AUTO", "AUTO", ""], ("AUTO",)),
        ("releases", "15.6.1|15.6.3", ("15.6.1", "15.6.3")),
        ("ddm", "A_DISK,A_TAPE", ("A_DISK", "A_TAPE")),
        ("acopytools.pr", ["rucio", "gfal"], ("rucio", "gfal")),
        ("copytools", {"rucio": {"setup": "/s.sh"}, "gfal": {}}, {"rucio": "/s.sh", "gfal": ""}),
        ("copyprefix", "srm://a/^root://b//", {"srm://a/": "root://b//"}),
        ("environ", "A=1 B='2 3'", {"A": "1", "B": "2 3"}),
        ("catchall", "a='b c',monitor_off", {"a": "b c", "monitor_off": "true"}),
    ],
    ids=repr,
)
def test_a_value_of_old_is_put_into_today_s_terms(
    old_name: str, value: Json, expected: Value
) -> None:
    made = today(old_name, value)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize("value", [None, "", " ", 0, "0"], ids=repr)
@pytest.mark.parametrize("old_name", ["maxtime", "maxrss", "timefloor", "corecount"])
def test_null_empty_and_zero_mean_not_set(old_name: str, value: Json) -> None:
    assert today(old_name, value) is None


@pytest.mark.parametrize("old_name", ["maxinputsize", "maxwdir"])
def test_zero_switches_a_check_off_that_is_on_by_default(old_name: str) -> None:
    made = today(old_name, 0)
    assert made == 0
    assert made is not None
    assert today(old_name, "") is None


@pytest.mark.parametrize(
    ("old_name", "value", "said"),
    [
        ("maxinputsize", "lots", "it is not a size"),
        ("maxinputsize", True, "a truth value instead of a number"),
        ("maxinputsize", [1], "a list instead of a number"),
        ("maxinputsize", -1, "is below zero"),
        ("maxinputsize", float("nan"), "is not a finite number"),
        ("maxrss", 1e308, "does not fit 64 bits"),
        ("maxrss", 2**43, "does not fit 64 bits"),
        ("maxrss", 10**400, "does not fit 64 bits"),
        ("maxtime", -1e308, "does not fit 64 bits"),
        ("corecount", 1.5, "is not a whole number"),
        ("corecount", "eight", "is not a number"),
        ("maxtime", 10**18, "longer than three thousand years"),
        ("cloud", 5, "a number instead of text"),
        ("status", "onlin", "did you mean online?"),
        ("status", 1, "a number instead of a word"),
        ("retry", "perhaps", "is neither true nor false"),
        ("retry", 2, "is neither true nor false"),
        ("retry", 0.5, "a number instead of true or false"),
        ("releases", [1], "element 1 is a number instead of text"),
        ("releases", {"a": 1}, "an object instead of a list"),
        ("allowedNode", "(", "is not a regular expression"),
        ("copyprefix", "only-one-side", "is not of the form old^new"),
        ("copytools", ["rucio"], "a list instead of an object"),
        ("copytools", {"rucio": {"setup": [1]}}, "'rucio' is a list instead of text"),
        ("environ", "A='1", "cannot be split"),
        ("environ", "A", "is not of the form NAME=value"),
    ],
    ids=repr,
)
def test_what_is_not_clear_is_an_error_and_no_guess(old_name: str, value: Json, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("^", r"\^").replace("?", r"\?")):
        today(old_name, value)
