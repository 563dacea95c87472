"""`pandawn bench`: options of the benchmark in `pandawn_tools.bench`."""

from pathlib import Path
from typing import Annotated

import typer

from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.jsonout import print_json
from pandawn_tools.cli.render import stdout_console

_QUICK_DEPTHS = "1000,100000"
_FULL_DEPTHS = "1000,100000,1000000"


def bench(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Measure less, without a million jobs: one minute on an idle machine."
        ),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="Database: postgres or sqlite.")
    ] = "postgres",
    depths: Annotated[
        str | None,
        typer.Option(
            "--depths",
            metavar="N,N...",
            help=f"Numbers of runnable jobs in the queue. Default: {_FULL_DEPTHS}; with --quick {_QUICK_DEPTHS}.",
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            help="Number of nodes, each with 500 files. Default: 10,000; with --quick 2,000.",
            min=100,
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            help="Slices of time for each kind of call. Default: 5; with --quick 3.",
            min=1,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", help="Length of a slice, in seconds. Default: 4; with --quick 1.", min=0.2
        ),
    ] = None,
    connections: Annotated[
        int, typer.Option("--connections", help="Connections of clients.", min=1)
    ] = 16,
    streams: Annotated[
        int, typer.Option("--streams", help="Concurrent calls on each connection.", min=1)
    ] = 8,
    reserve: Annotated[
        int | None,
        typer.Option(
            "--reserve",
            help="Jobs kept ready at each depth to replace those handed out. Default: from --rounds and --seconds.",
        ),
    ] = None,
    only_acquire: Annotated[
        bool, typer.Option("--only-acquire", help="Measure only AcquireJobs.")
    ] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile",
            metavar="FILE",
            help="Profile the CPU time of AcquireJobs, and write the stacks to FILE.",
        ),
    ] = None,
) -> None:
    """Measure a server with its own PostgreSQL and memcached, against a handler that does nothing.

    Starts temporary servers, fills them with jobs and with the cache contents of 10,000 nodes, and
    measures the real server. Progress goes to standard error. Needs Debian's postgresql and memcached.
    """
    from pandawn_tools.bench.processes import BenchError
    from pandawn_tools.bench.result import to_json, to_tables
    from pandawn_tools.bench.run import Options, run

    if engine not in ("postgres", "sqlite"):
        raise usage_error("BAD_ENGINE", f"{engine!r} is not postgres or sqlite")
    rounds = rounds or (3 if quick else 5)
    seconds = seconds or (1.0 if quick else 4.0)
    warm_s = 0.3 if quick else 0.5
    options = Options(
        engine="postgres" if engine == "postgres" else "sqlite",
        depths=_depths(depths or (_QUICK_DEPTHS if quick else _FULL_DEPTHS)),
        nodes=nodes or (2_000 if quick else 10_000),
        rounds=rounds,
        seconds=seconds,
        warm_s=warm_s,
        connections=connections,
        streams=streams,
        # Enough for 3,000 jobs a second: about what one process answers when it does nothing. And for the slice
        # of a profile.
        reserve=reserve or int(3000 * rounds * (seconds + warm_s)) + (60_000 if profile else 0),
        leased=5_000 if quick else 40_000,
        peer_jobs=3_000 if quick else 50_000,
        peer_seconds=1.5 if quick else 10.0,
        is_full=not quick,
        only_acquire=only_acquire,
        profile=profile,
    )
    try:
        result = run(options)
    except BenchError as error:
        raise CliError(ExitStatus.WORK_FAILED, "BENCH_FAILED", str(error)) from error
    if result is None:
        return
    if json_output:
        print_json(to_json(result))
        return
    for table in to_tables(result):
        stdout_console().print(table)


def _depths(text: str) -> tuple[int, ...]:
    try:
        depths = tuple(int(part) for part in text.split(","))
    except ValueError:
        depths = ()
    if not depths or min(depths) < 1:
        raise usage_error("BAD_DEPTHS", f"{text!r} is not a list of numbers above 0: 1000,100000")
    return depths
