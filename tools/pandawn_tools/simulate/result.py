"""Formats a comparison as JSON, and as a table for people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

from rich.table import Table

from pandawn_tools.cli.jsonout import Json
from pandawn_tools.cli.units import format_count, format_span
from pandawn_tools.simulate.run import Comparison


def to_json(comparison: Comparison) -> dict[str, Json]:
    """The object that `pandawn simulate --json` prints."""
    return {
        "jobs": comparison.workload.jobs,
        "bound_byte_hit": round(comparison.workload.bound_byte_hit, 4),
        "policies": {
            name: {
                field: round(value, 4) if isinstance(value, float) else value
                for field, value in asdict(found).items()
            }
            for name, found in comparison.policies.items()
        },
    }


def describe(comparison: Comparison) -> str:
    """Describes the workload in a sentence."""
    workload = comparison.workload
    return (
        f"{format_count(workload.jobs, 'job')} of {format_count(workload.tasks, 'task')} over "
        f"{workload.hours:.1f} h; {workload.inputs_per_job:.1f} inputs per job, "
        f"{workload.mean_input_bytes / 1e6:,.0f} MB each, "
        f"{workload.input_bytes / 1e12:,.1f} TB in all; each of {workload.files:,} files is read "
        f"{workload.reads_per_file:.1f} times; mean run time {workload.mean_runtime_s:,.0f} s"
    )


def to_table(comparison: Comparison) -> Table:
    """The figures of each policy, and the bound."""
    table = Table(title="Bytes and files found on the job's node, and the cost")
    table.add_column("policy")
    for name in ("byte hit", "file hit", "moved TB", "95 % done", "all done"):
        table.add_column(name, justify="right")
    for name in ("wait p50", "p99", "longest", "fairness"):
        table.add_column(name, justify="right")
    for name, found in comparison.policies.items():
        table.add_row(
            *(name, f"{found.byte_hit:.3f}", f"{found.file_hit:.3f}"),
            f"{found.moved_bytes / 1e12:,.1f}",
            *(_span(found.t95_s), _span(found.makespan_s)),
            *(_span(found.wait_p50_s), _span(found.wait_p99_s), _span(found.max_wait_s)),
            f"{found.jain_fairness:.3f}",
        )
    workload = comparison.workload
    table.add_section()
    table.add_row(
        "one infinite cache",
        f"{workload.bound_byte_hit:.3f}",
        f"{workload.bound_file_hit:.3f}",
        f"{workload.input_bytes * (1 - workload.bound_byte_hit) / 1e12:,.1f}",
    )
    return table


def _span(seconds: float) -> str:
    return format_span(timedelta(seconds=round(seconds)))
