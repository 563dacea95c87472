"""`pandawn simulate`: options of the simulation in `pandawn_tools.simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.jsonout import print_json
from pandawn_tools.cli.render import note, print_prose, stdout_console
from pandawn_tools.cli.simulate_values import check_plot, draw_plot, intervals, seconds

_WORKLOAD = "Workload"
_MODEL = "Shape of the model"
_CLUSTER = "Cluster"
_FAULTS = "Faults"

_A_POSITIVE_HOUR = 0.001


def simulate(
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            rich_help_panel=_WORKLOAD,
            help="Recorded jobs, one JSON object per line with t, job, task, priority, "
            "runtime_s, inputs.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            rich_help_panel=_WORKLOAD,
            help="Workload model. ndgf: published statistics of ATLAS jobs; scattered: jobs that share no files.",
        ),
    ] = "ndgf",
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", min=1, rich_help_panel=_WORKLOAD, help="Number of jobs of the model."
        ),
    ] = 83_000,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            min=_A_POSITIVE_HOUR,
            rich_help_panel=_WORKLOAD,
            help="Hours in which the jobs arrive. Default: 24, or as in the trace.",
        ),
    ] = None,
    load: Annotated[
        float | None,
        typer.Option(
            "--load",
            min=0.001,
            rich_help_panel=_WORKLOAD,
            help="Instead of --hours: mean number of busy slots while jobs arrive, divided by all slots.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, rich_help_panel=_WORKLOAD, help="Seed of the random numbers."
        ),
    ] = 1,
    inputs: Annotated[
        float,
        typer.Option(
            "--inputs",
            min=0.0,
            rich_help_panel=_MODEL,
            help="Mean number of files that a job reads.",
        ),
    ] = 6.6,
    mean_mb: Annotated[
        float,
        typer.Option(
            "--mean-mb", min=0.001, rich_help_panel=_MODEL, help="Mean size of a file, in MB."
        ),
    ] = 338.0,
    size_sigma: Annotated[
        float,
        typer.Option(
            "--size-sigma",
            min=0.0,
            rich_help_panel=_MODEL,
            help="Spread of file sizes (sigma of a log-normal distribution).",
        ),
    ] = 1.0,
    reads: Annotated[
        float,
        typer.Option(
            "--reads",
            min=1.0,
            rich_help_panel=_MODEL,
            help="Mean number of times that a file is read.",
        ),
    ] = 3.9,
    dataset_files: Annotated[
        float,
        typer.Option(
            "--dataset-files",
            min=1.0,
            rich_help_panel=_MODEL,
            help="Mean number of files of a dataset.",
        ),
    ] = 100.0,
    dataset_sigma: Annotated[
        float,
        typer.Option(
            "--dataset-sigma", min=0.0, rich_help_panel=_MODEL, help="Spread of files per dataset."
        ),
    ] = 0.8,
    cut_sigma: Annotated[
        float,
        typer.Option(
            "--cut-sigma",
            min=0.0,
            rich_help_panel=_MODEL,
            help="Spread of files per job between tasks.",
        ),
    ] = 0.5,
    own_cut: Annotated[
        float,
        typer.Option(
            "--own-cut",
            min=0.0,
            max=1.0,
            rich_help_panel=_MODEL,
            help="Share of tasks whose number of files per job differs from the first reader's of the dataset, 0 to 1.",
        ),
    ] = 0.5,
    reuse_depth: Annotated[
        float,
        typer.Option(
            "--reuse-depth",
            min=0.1,
            rich_help_panel=_MODEL,
            help="Mean age of a dataset that is read again, in datasets.",
        ),
    ] = 60.0,
    reuse_any: Annotated[
        float,
        typer.Option(
            "--reuse-any",
            min=0.0,
            max=1.0,
            rich_help_panel=_MODEL,
            help="Share of tasks that read a dataset again of any age, 0 to 1.",
        ),
    ] = 0.2,
    hot_files: Annotated[
        int,
        typer.Option(
            "--hot-files",
            min=0,
            rich_help_panel=_MODEL,
            help="Number of files that most jobs read.",
        ),
    ] = 20,
    hot_share: Annotated[
        float,
        typer.Option(
            "--hot-share",
            min=0.0,
            max=1.0,
            rich_help_panel=_MODEL,
            help="Share of jobs that read one of the hot files, 0 to 1.",
        ),
    ] = 0.9,
    hot_mb: Annotated[
        float,
        typer.Option(
            "--hot-mb", min=0.001, rich_help_panel=_MODEL, help="Size of a hot file, in MB."
        ),
    ] = 12.0,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            metavar="TIME",
            rich_help_panel=_MODEL,
            help="Mean run time of a job, such as 40min.",
        ),
    ] = "2400s",
    runtime_sigma: Annotated[
        float,
        typer.Option(
            "--runtime-sigma",
            min=0.0,
            rich_help_panel=_MODEL,
            help="Spread of run times (sigma of a log-normal distribution).",
        ),
    ] = 0.8,
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, rich_help_panel=_CLUSTER, help="Number of nodes.")
    ] = 100,
    slots: Annotated[
        int,
        typer.Option(
            "--slots", min=1, rich_help_panel=_CLUSTER, help="Jobs that run at a time on a node."
        ),
    ] = 8,
    cache_gb: Annotated[
        float,
        typer.Option(
            "--cache-gb", min=0.0, rich_help_panel=_CLUSTER, help="Cache of a node, in GB."
        ),
    ] = 160.0,
    bandwidth_mb_s: Annotated[
        float,
        typer.Option(
            "--bandwidth-mb-s",
            min=0.001,
            rich_help_panel=_CLUSTER,
            help="Network bandwidth of a node, in MB/s.",
        ),
    ] = 60.0,
    locality_wait: Annotated[
        str,
        typer.Option(
            "--locality-wait",
            metavar="TIME",
            rich_help_panel=_CLUSTER,
            help="Maximum time that a job is held for a node with its files, such as 10min.",
        ),
    ] = "10min",
    priority_band: Annotated[
        int,
        typer.Option(
            "--priority-band",
            min=1,
            rich_help_panel=_CLUSTER,
            help="Width of a priority band; priorities in a band count as equal.",
        ),
    ] = 100,
    node_mtbf: Annotated[
        str | None,
        typer.Option(
            "--node-mtbf",
            metavar="TIME",
            rich_help_panel=_FAULTS,
            help="Mean time between failures of a node, which loses its jobs and its cache. Default: no failures.",
        ),
    ] = None,
    node_repair: Annotated[
        str,
        typer.Option(
            "--node-repair",
            metavar="TIME",
            rich_help_panel=_FAULTS,
            help="Time until a failed node is back.",
        ),
    ] = "1h",
    stale: Annotated[
        str,
        typer.Option(
            "--stale",
            metavar="TIME",
            rich_help_panel=_FAULTS,
            help="Delay until the catalog has a change of a cache.",
        ),
    ] = "0",
    lost: Annotated[
        float,
        typer.Option(
            "--lost",
            min=0.0,
            max=1.0,
            rich_help_panel=_FAULTS,
            help="Share of changes that never reach the catalog, 0 to 1.",
        ),
    ] = 0.0,
    rewritten: Annotated[
        float,
        typer.Option(
            "--rewritten",
            min=0.0,
            max=1.0,
            rich_help_panel=_FAULTS,
            help="Share of files that are rewritten once under the same name, 0 to 1.",
        ),
    ] = 0.0,
    memcached_down: Annotated[
        str,
        typer.Option(
            "--memcached-down",
            metavar="FROM-UNTIL,...",
            rich_help_panel=_FAULTS,
            help="Times without a catalog, such as 2h-3h,10h-11h. After each it is empty.",
        ),
    ] = "",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME,...",
            help="Policies to compare: fifo, panda2010, bytes-10, bytes-100, pandawn. Default: all.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE", help="Write a plot to this .png, .svg or .pdf file."
        ),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output.")
    ] = False,
) -> None:
    """Compare policies that match jobs with nodes, on a simulated cluster.

    Runs one workload under several policies; policy `pandawn` is the dispatch code of the server.
    Times are written like 90s, 10min or 2h; a number without a unit is seconds. No server is needed.
    docs/simulation.md describes the model.
    """
    from pandawn_tools.simulate.cluster import Cluster
    from pandawn_tools.simulate.models import MODELS, Model
    from pandawn_tools.simulate.reports import Faults
    from pandawn_tools.simulate.result import describe, to_json, to_table
    from pandawn_tools.simulate.run import POLICIES, Setting, compare
    from pandawn_tools.simulate.trace import TraceError, read_trace
    from pandawn_tools.simulate.workload import hours_for, stretched
    from pandawn_tools.simulate.workload import rewritten as with_rewritten_files

    if load is not None and hours is not None:
        raise usage_error("BAD_LOAD", "--load and --hours exclude each other; use one of them")
    chosen = tuple(name for names in policy or POLICIES for name in names.split(","))
    for name in chosen:
        if name not in POLICIES:
            raise usage_error("BAD_POLICY", f"{name!r} is not one of {', '.join(POLICIES)}")
    check_plot(plot)
    parameters = Model(
        jobs=jobs,
        inputs=inputs,
        mean_mb=mean_mb,
        size_sigma=size_sigma,
        reads=reads,
        dataset_files=dataset_files,
        dataset_sigma=dataset_sigma,
        cut_sigma=cut_sigma,
        own_cut=own_cut,
        reuse_depth=reuse_depth,
        reuse_any=reuse_any,
        hot_files=hot_files,
        hot_share=hot_share,
        hot_mb=hot_mb,
        runtime_s=seconds("--runtime", runtime),
        runtime_sigma=runtime_sigma,
    )
    if model not in MODELS:
        raise usage_error("BAD_MODEL", f"{model!r} is not one of {', '.join(MODELS)}")
    try:
        workload = read_trace(trace) if trace else MODELS[model](parameters, seed)
    except TraceError as error:
        raise usage_error("BAD_TRACE", str(error)) from error
    if load is not None:
        hours = hours_for(workload, load, nodes * slots)
    if hours is not None:
        workload = stretched(workload, hours)
    if rewritten:
        workload = with_rewritten_files(workload, rewritten, seed)
    setting = Setting(
        cluster=Cluster(
            nodes=nodes,
            slots=slots,
            cache_bytes=int(cache_gb * 1e9),
            bytes_per_s=bandwidth_mb_s * 1e6,
            mtbf_s=seconds("--node-mtbf", node_mtbf or "0"),
            repair_s=seconds("--node-repair", node_repair),
        ),
        locality_wait_s=seconds("--locality-wait", locality_wait),
        priority_band=priority_band,
        faults=Faults(seconds("--stale", stale), lost, intervals(memcached_down)),
        seed=seed,
    )
    comparison = compare(workload, setting, chosen, note)
    if plot is not None:
        draw_plot(comparison, plot)
    if json_output:
        print_json(to_json(comparison))
        return
    print_prose(describe(comparison))
    stdout_console().print(to_table(comparison))
