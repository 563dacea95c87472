from __future__ import annotations

import json
from pathlib import Path

import pytest

from pandawn_tools.simulate.trace import TraceError, parse_trace, read_trace


def line(**overrides: object) -> str:
    values = {
        "t": 0,
        "job": "1",
        "task": "a",
        "priority": 0,
        "runtime_s": 60,
        "inputs": [["f1", 1000]],
    }
    return json.dumps(values | overrides)


def test_a_line_becomes_a_job() -> None:
    (job,) = parse_trace([line(priority=7, inputs=[["f1", 1000], ["f2", 20]])], "trace")
    assert (job.at, job.priority, job.runtime_s) == (0, 7, 60)
    assert [size for _, size in job.inputs] == [1000, 20]


def test_jobs_are_put_in_the_order_of_time_and_the_first_is_at_zero() -> None:
    jobs = parse_trace([line(t=1e9 + 5, job="1"), line(t=1e9, job="2")], "trace")
    assert [job.at for job in jobs] == [0, 5]


def test_a_file_is_the_same_in_all_jobs() -> None:
    one, two = parse_trace([line(job="1"), line(job="2", task="b")], "trace")
    assert one.inputs == two.inputs
    assert one.task != two.task


def test_a_file_named_twice_in_a_job_is_read_once() -> None:
    (job,) = parse_trace([line(inputs=[["f1", 1000], ["f1", 1000]])], "trace")
    assert len(job.inputs) == 1


def test_a_name_at_another_version_is_another_file() -> None:
    inputs = [["f1", 1000], ["f1", 1000, "v1"], ["f1", 7, "v2"], ["f1", 1000, "v1"]]
    (job,) = parse_trace([line(inputs=inputs)], "trace")
    assert [size for _, size in job.inputs] == [1000, 1000, 7]


def test_empty_lines_are_passed_over() -> None:
    assert len(parse_trace(["\n", line(), "\n"], "trace")) == 1


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "Expecting"),
        ("[]", "not a JSON object"),
        ('{"t": 1}', "'job' is missing"),
        (line(runtime_s=-1), "runtime_s is negative"),
        (line(t="now"), "t is not a number"),
        (line(priority=1.5), "priority"),
        (line(inputs=[["f1"]]), "input"),
        (line(inputs=[["f1", -5]]), "a size is negative"),
        (line(runtime_s=True), "runtime_s is not a number"),
    ],
)
def test_a_line_that_makes_no_sense_is_named_with_what_is_wrong(bad: str, said: str) -> None:
    with pytest.raises(TraceError, match=r"^trace:2: ") as raised:
        parse_trace([line(job="0"), bad], "trace")
    assert said in str(raised.value)


def test_a_job_told_twice_is_an_error() -> None:
    with pytest.raises(TraceError, match="occurs twice"):
        parse_trace([line(), line()], "trace")


def test_a_trace_without_jobs_is_an_error() -> None:
    with pytest.raises(TraceError, match="no jobs"):
        parse_trace([], "trace")


def test_a_trace_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "absent.jsonl")
