"""`pandawn simulate-faults`: users' mistakes and broken nodes under the server's own rules."""

from dataclasses import asdict
from typing import Annotated

import typer

from pandawn_tools.cli.jsonout import print_json
from pandawn_tools.cli.tables import Cell, Column, print_table

_COLUMNS = (
    Column("SEED", "right"),
    Column("JOBS", "right"),
    Column("ATTEMPTS", "right"),
    Column("GOOD NODES SUSPENDED", "right"),
    Column("JOBS ON EACH BROKEN NODE UNTIL IT WAS SUSPENDED", fold=True),
    Column("FAILED BY USERS", "right"),
    Column("FAILED BY NODES", "right"),
)


def simulate_faults(
    nodes: Annotated[int, typer.Option("--nodes", min=10, help="Number of nodes.")] = 100,
    slots: Annotated[
        int, typer.Option("--slots", min=1, help="Jobs that run at a time on a node.")
    ] = 8,
    users: Annotated[int, typer.Option("--users", min=2, help="Number of users.")] = 40,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Number of jobs.")] = 8000,
    hours: Annotated[
        float, typer.Option("--hours", min=0.001, help="Hours in which the jobs arrive.")
    ] = 6.0,
    seeds: Annotated[
        int,
        typer.Option("--seeds", min=1, help="Number of runs, each with its own random numbers."),
    ] = 3,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each run.")
    ] = False,
) -> None:
    """Simulate mistakes of users and broken nodes, and show which of them the server blames.

    Three in ten tasks have a mistake. Some nodes lack programs, cannot start any, have full disks, are slow, or
    corrupt files. Retries and suspensions use the code of the server. No server is needed. docs/faults.md describes
    the model.
    """
    from pandawn_tools.simulate.mishap_world import MishapWorld

    rows: list[list[Cell]] = []
    for seed in range(1, seeds + 1):
        world = MishapWorld(
            nodes=nodes, slots=slots, users=users, jobs=jobs, hours=hours, seed=seed
        )
        found = world.run()
        if json_output:
            print_json({"seed": seed, **asdict(found)})
            continue
        waits = ", ".join(
            f"{sort} {'never' if count is None else count}" for sort, count in found.waits
        )
        rows.append(
            [
                seed,
                found.jobs,
                found.attempts,
                found.good_nodes_suspended,
                waits,
                found.failed_by_users,
                found.failed_by_nodes,
            ]
        )
    if not json_output:
        print_table(_COLUMNS, rows, empty="There was no run.")
