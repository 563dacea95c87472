"""`pandawn bench`: the door to `pandawn_tools.bench`."""

from typing import Annotated

import typer

from pandawn_tools.cli.errors import CliError, ExitStatus


def bench(
    depths: Annotated[
        str, typer.Option("--depths", metavar="N,N...", help="Jobs waiting.")
    ] = "1000",
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes with 500 files each.")] = 10_000,
    rounds: Annotated[int, typer.Option("--rounds", help="Slices of each kind.")] = 3,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of a slice.")] = 2.0,
) -> None:
    """Measure a server of your own on PostgreSQL and memcached, against a handler that does nothing."""
    from pandawn_tools.bench.processes import BenchError
    from pandawn_tools.bench.run import Options, run

    try:
        run(
            Options(
                depths=tuple(map(int, depths.split(","))),
                nodes=nodes,
                rounds=rounds,
                seconds=seconds,
            )
        )
    except BenchError as error:
        raise CliError(ExitStatus.WORK_FAILED, "BENCH_FAILED", str(error)) from error
