"""The checker finds what is wrong with a request, all of it, and says where."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pandawn.common.v1 import common_pb2
from pandawn_server.domain.errors import InvalidRequestError
from pandawn_server.wire.edge.validation import Checker


def problems(show: Callable[[Checker], object]) -> dict[str, str]:
    """What the checker says after it was shown something: description by field."""
    check = Checker()
    show(check)
    try:
        check.done()
    except InvalidRequestError as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


@pytest.mark.parametrize("name", ["a", "Q_1", "ANALY.CERN-2", "_x", "0", "x" * 64])
def test_a_name_of_letters_digits_and_marks_is_fine(name: str) -> None:
    assert not problems(lambda check: check.queue("queue", name))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a/b",
        "a b",
        "a\nb",
        "é",
        "x" * 65,
        "a\x00",
        "\uff41",
        "\u0663",
    ],
)
def test_a_name_that_is_no_directory_or_argument_is_refused(name: str) -> None:
    assert list(problems(lambda check: check.user("task.user", name))) == ["task.user"]


def test_a_dataset_may_be_longer_than_other_names() -> None:
    assert not problems(lambda check: check.dataset("task.dataset", "x" * 200))
    assert problems(lambda check: check.dataset("task.dataset", "x" * 201))


@pytest.mark.parametrize(
    "lfn", ["a", "mc.root", "a/b/c.root", "..a", "a..b", ".x", "ø" * 127, "with space", "x" * 255]
)
def test_an_lfn_may_be_a_relative_path(lfn: str) -> None:
    assert not problems(lambda check: check.lfn("lfn", lfn))


@pytest.mark.parametrize(
    "lfn",
    [
        "",
        "/etc/passwd",
        "..",
        ".",
        "../a",
        "a/../b",
        "a/..",
        "a//b",
        "a/",
        "./a",
        "a\nb",
        "a\x7f",
        "a\x9bm",
        "a\u202eb",
        "x" * 256,
        "ø" * 128,
        "x" * 300,
    ],
)
def test_an_lfn_that_leads_elsewhere_or_breaks_a_line_is_refused(lfn: str) -> None:
    assert list(problems(lambda check: check.lfn("lfn", lfn))) == ["lfn"]


def test_a_host_name_comes_back_in_lower_case() -> None:
    check = Checker()
    assert check.host("node", "WN01.Example.ORG") == "wn01.example.org"
    check.done()


@pytest.mark.parametrize("host", ["", "a" * 254, "a" * 300, "a b", "a\x07", "a:1", "-a", ".a"])
def test_what_is_no_host_name_is_refused(host: str) -> None:
    assert list(problems(lambda check: check.host("node", host))) == ["node"]


@pytest.mark.parametrize(
    "checksum", ["adler32:0a1b2c3d", "md5:" + "0f" * 16, "sha256:" + "0f" * 32, ""]
)
def test_checksums_name_their_algorithm(checksum: str) -> None:
    assert not problems(lambda check: check.checksum("checksum", checksum))


@pytest.mark.parametrize(
    "checksum", ["0a1b2c3d", "adler32:0A1B2C3D", "adler32:1", "md5:12345678", "sha1:" + "0" * 40]
)
def test_other_checksums_are_refused(checksum: str) -> None:
    assert problems(lambda check: check.checksum("checksum", checksum))


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("ADLER32:0A1B2C3D", "adler32:0a1b2c3d"),
        ("adler32:a1b2c3d", "adler32:0a1b2c3d"),
        ("MD5:" + "0F" * 16, "md5:" + "0f" * 16),
        ("sha256:" + "A0" * 32, "sha256:" + "a0" * 32),
    ],
)
def test_a_checksum_in_another_spelling_is_refused_with_the_right_one(
    given: str, right: str
) -> None:
    found = problems(lambda check: check.checksum("checksum", given))
    assert found["checksum"].endswith(f"must be written {right}")


@pytest.mark.parametrize(
    "url",
    [
        "file:///a",
        "file:///data/x y.root",
        "file:///a/..b",
        "root://node//a",
        "root://node.example.org:1094//data/x y%20ż.root",
        "root://[2001:db8::1]:1094//a",
        "root://node:65535///a",
        # Who has a transport for it knows; the server does not.
        "davs://node.example.org:443/data/a.root",
    ],
)
def test_a_url_has_a_scheme_and_an_absolute_path(url: str) -> None:
    assert not problems(lambda check: check.url("url", url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/data/a",
        "file://host/a",
        "file:a",
        "file:///a/../b",
        "file:///a/%2e%2E/b",
        "file:///a\nb",
        "file:///a#b",
        "file:///a?b",
        "file:///" + "x" * 4096,
        "root:///a",
        "root://node",
        "root://node/a",
        "root://node//",
        "root://node:0//a",
        "root://node:65536//a",
        "root://node:1094x//a",
        "root://me@node//a",
        "root://node//a?authz=secret",
        "root://node//a/../b",
        "root://node//a/%2e%2E/b",
        "root://node//a\nb",
        "root://node//" + "x" * 4096,
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    assert problems(lambda check: check.url("url", url))


@pytest.mark.parametrize(("given", "size"), [(0, 100), (1, 1), (1000, 1000)])
def test_a_page_has_a_default_size_and_bounds(given: int, size: int) -> None:
    check = Checker()
    assert check.page_size(given) == size
    check.done()


@pytest.mark.parametrize("given", [-1, 1001, 2**31 - 1])
def test_a_page_size_out_of_bounds_is_refused_not_cut(given: int) -> None:
    assert list(problems(lambda check: check.page_size(given))) == ["page_size"]


def test_a_duration_comes_back_as_a_timedelta() -> None:
    check = Checker()
    span = check.duration("wait", Duration(seconds=2, nanos=500), maximum=timedelta(seconds=60))
    check.done()
    assert span == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(61, 0), (-1, 0), (0, -1_000), (315_576_000_000, 0), (-(2**63), 0), (60, 2_000)],
)
def test_a_duration_out_of_bounds_is_refused(seconds: int, nanos: int) -> None:
    value = Duration(seconds=seconds, nanos=nanos)
    found = problems(lambda check: check.duration("wait", value, maximum=timedelta(seconds=60)))
    assert found["wait"].endswith("0 to 60 s")


def test_a_timestamp_must_be_one_that_python_and_sql_know() -> None:
    assert not problems(lambda check: check.timestamp("t", Timestamp(seconds=1_700_000_000)))
    assert problems(lambda check: check.timestamp("t", Timestamp(seconds=2**60)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_a_measured_quantity_is_finite_and_not_negative(value: float) -> None:
    assert problems(lambda check: check.measure("cpu_seconds", value))


def test_a_file_is_named_by_lfn_or_guid_not_both() -> None:
    nameless = common_pb2.FileRef(scope="a")
    assert problems(lambda check: check.file_ref(("files", 3), nameless)) == {
        "files[3]": "must have either lfn or guid"
    }
    for empty in (common_pb2.FileRef(lfn=""), common_pb2.FileRef(guid="")):
        assert problems(partial(Checker.file_ref, field="file", value=empty))
    assert not problems(lambda check: check.file_ref("file", common_pb2.FileRef(guid="A-1")))


def test_everything_wrong_with_a_request_is_told_at_once_with_its_path() -> None:
    def show(check: Checker) -> None:
        check.queue("task.queue", "a b")
        check.file(("task.inputs", 17, "file"), common_pb2.File(lfn="/x", size_bytes=-1))
        check.count("task.command", [], 1, 10)
        check.range("task.priority", 10_001, -10_000, 10_000)

    assert problems(show) == {
        "task.queue": "'a b' must consist of A-Z a-z 0-9 _ . - and begin with a letter, digit or _",
        "task.inputs[17].file.lfn": "'/x' must not be an absolute path",
        "task.inputs[17].file.size_bytes": "is -1 bytes; it must be at least 0",
        "task.command": "must not be empty",
        "task.priority": "is 10,001; it must be -10,000 to 10,000",
    }


def test_a_description_shows_no_control_characters_and_no_long_values() -> None:
    found = problems(lambda check: check.queue("queue", "\x1b[2J" + "x" * 50))
    assert found["queue"].isprintable()
    assert len(problems(lambda check: check.lfn("lfn", "/" + "x" * 250))["lfn"]) < 120


def test_a_good_request_raises_nothing() -> None:
    Checker().done()
