import json
from io import StringIO

import pytest
from rich.console import Console

from pandawn_tools.bench.machine import this_machine
from pandawn_tools.bench.peers import Peers
from pandawn_tools.bench.profile import parse_stacks, report
from pandawn_tools.bench.rates import Rates
from pandawn_tools.bench.result import AcquireFigures, Result, to_json, to_tables

FIGURES = AcquireFigures(
    rps=1500.04, ratio=0.7123, p50_ms=80.5, p99_ms=120.0, server_cpu_us=640.0, rss_mb=512.0
)


def make_result(peers: Peers) -> Result:
    return Result(
        machine=this_machine(),
        engine={"name": "postgresql"},
        empty_rps=2100.0,
        acquire={1000: FIGURES, 100_000: FIGURES},
        rates=Rates(1.0, 2.0, 3.0, 4.0),
        peers=peers,
    )


def test_the_json_object_has_the_documented_names() -> None:
    found = json.loads(json.dumps(to_json(make_result(Peers(5.0, None)))))

    assert list(found) == [
        *("machine", "engine", "empty_rps", "acquire", "renew_leases_per_s", "report_jobs_per_s"),
        *("catalog_add_files_per_s", "catalog_check_files_per_s", "peers"),
    ]
    assert list(found["acquire"]) == ["1000", "100000"]
    assert found["acquire"]["1000"] == {
        "rps": 1500.04,
        "ratio": 0.712,
        "p50_ms": 80.5,
        "p99_ms": 120.0,
        "server_cpu_us": 640.0,
        "rss_mb": 512.0,
    }
    assert found["peers"] == {"pgqueuer_jobs_per_s": 5.0, "procrastinate_jobs_per_s": None}
    assert (found["catalog_add_files_per_s"], found["catalog_check_files_per_s"]) == (3.0, 4.0)


def test_the_tables_hold_the_figures_and_a_dash_for_a_missing_peer() -> None:
    console = Console(width=120, record=True, file=StringIO())
    for table in to_tables(make_result(Peers(None, 77.0))):
        console.print(table)

    text = console.export_text()
    assert "100,000" in text
    assert "0.71" in text
    assert "77" in text
    assert "-" in text


STACKS = (
    "thread (1): MainThread;serve (pandawn_server/main.py:10);handle (wire/a.py:20) 30",
    "thread (1): MainThread;serve (pandawn_server/main.py:11);handle (wire/a.py:20);handle (wire/a.py:21) 10",
    "thread (2): usecase_0;run (threading.py:1);acquire (usecases/b.py:5) 60",
)


def test_a_profile_tells_what_functions_take_themselves_and_with_what_they_call() -> None:
    lines = report(parse_stacks(STACKS), cpu_us=1000.0)
    own, whole = "\n".join(lines).split("with what it calls")

    assert "    600   60.0%  acquire (usecases/b.py)" in own
    assert "    400   40.0%  handle (wire/a.py)" in own
    assert "    400   40.0%  handle (wire/a.py)" in whole
    assert "    400   40.0%  serve (pandawn_server/main.py)" in whole
    assert "threading.py" not in whole
    assert "thread (" not in whole


def test_a_profile_without_samples_says_so() -> None:
    assert report([], cpu_us=1.0) == ["no samples"]


@pytest.mark.parametrize("name", ["cpu", "system", "python", "grpcio", "date"])
def test_the_machine_is_described(name: str) -> None:
    assert getattr(this_machine(), name)
