"""Reports the result of the demo: what ran where and why, what was moved, and where the outputs are."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from pandawn.broker.v1 import broker_pb2 as broker
from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.render import clean, stdout_console
from pandawn_tools.cli.units import format_share, format_size
from pandawn_tools.demo.place import Place
from pandawn_tools.demo.result import DemoResult, JobDetail, TaskResult
from pandawn_tools.demo.users import NODES


def print_report(
    client: Client, place: Place, result: DemoResult, details: Mapping[str, Sequence[JobDetail]]
) -> None:
    """Prints the report to standard output.

    Raises:
        CliError: The server does not return the explanation.
    """
    console = stdout_console()
    console.print()
    console.print(_what_ran_where(result.tasks, details))
    console.print(Text("Each run job also reads the library that the build job made.", "dim"))
    console.print()
    for task in result.tasks:
        console.print(_sentence(task))
    explained = _explain(client, details)
    if explained:
        console.print()
        console.print(explained)
    console.print()
    for task in result.tasks:
        console.print(_fact(f"outputs of {task.user}", task.output_dir), soft_wrap=True)
    console.print(_fact("logs of processes", str(place.logs)), soft_wrap=True)
    console.print(_fact("the picture", result.plot), soft_wrap=True)
    console.print(_fact("took", f"{result.wall_s:.0f} s"))


def print_kept(address: str, pids: Sequence[int]) -> None:
    """Prints how to use the processes that were left running, and how to end them."""
    console = stdout_console()
    lines = (
        ("still running", f"server at {address}, pilots on {', '.join(NODES)}"),
        ("look", f"export PANDAWN_SERVER={address}"),
        ("", "pandawn tasks; pandawn jobs; pandawn nodes; pandawn events"),
        ("end it", f"kill {' '.join(str(pid) for pid in pids)}"),
    )
    console.print()
    for name, text in lines:
        console.print(_fact(name, text), soft_wrap=True)


def _fact(name: str, text: str) -> Text:
    return Text(f"{name:<18} ", style="bold").append(text, style="not bold")


def _what_ran_where(
    tasks: Sequence[TaskResult], details: Mapping[str, Sequence[JobDetail]]
) -> Table:
    """Builds a row for each input file: which node read it for each user, and from where."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("input", overflow="fold")
    for task in tasks:
        table.add_column(task.user, no_wrap=True)
        table.add_column("moved", justify="right", no_wrap=True)
        table.add_column("cached", justify="right", no_wrap=True)
    rows: dict[str, list[Text]] = {}
    for task in tasks:
        for detail in details[task.user]:
            name = detail.input_lfn.removesuffix(".root") or f"({detail.role})"
            rows.setdefault(name, []).extend(_cells(detail))
    for name, cells in rows.items():
        table.add_row(Text(clean(name)), *cells)
    table.add_section()
    table.add_row(Text("sum", style="bold"), *(cell for task in tasks for cell in _sums(task)))
    return table


def _cells(detail: JobDetail) -> list[Text]:
    job = detail.job
    if job.state != types.JOB_STATE_FINISHED:
        return [Text(job.node or "-"), Text("failed", style="bold red"), Text("-")]
    return [Text(job.node), *_bytes(job.input_bytes, job.bytes_from_cache)]


def _sums(task: TaskResult) -> list[Text]:
    return [Text(""), *_bytes(task.input_bytes, task.bytes_from_cache)]


def _bytes(size: int, cached: int) -> list[Text]:
    moved = size - cached
    return [
        Text(format_size(moved) if moved else "-", style="yellow" if moved else "dim"),
        Text(format_size(cached) if cached else "-", style="green" if cached else "dim"),
    ]


def _sentence(task: TaskResult) -> Text:
    share = format_share(task.bytes_from_cache, task.input_bytes)
    text = Text(f"task {task.task_id} of {task.user}: ", style="bold")
    failed = f", {task.jobs_failed} failed" if task.jobs_failed else ""
    text.append(
        f"{task.jobs_finished} jobs finished{failed}; "
        f"{format_size(task.input_bytes - task.bytes_from_cache)} moved to nodes, "
        f"{format_size(task.bytes_from_cache)} ({share}) from their caches",
        style="not bold",
    )
    return text


def _explain(client: Client, details: Mapping[str, Sequence[JobDetail]]) -> Text | None:
    """Returns the server's explanation of a job that ran where its file was; None if there is none."""
    for detail in reversed([detail for jobs in details.values() for detail in jobs]):
        job = detail.job
        if not detail.input_lfn or not job.bytes_from_cache:
            continue
        request = broker.ExplainJobRequest(job_id=job.job_id)
        answer = client.call(client.broker.ExplainJob, request)
        if answer.job_match.rule == types.MATCH_RULE_LOCAL_BYTES:
            text = Text(f"pandawn why {job.job_id}: ", style="bold cyan")
            return text.append(clean(answer.summary), style="default not bold")
    return None
