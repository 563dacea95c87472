"""The result of a benchmark, as one JSON object and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median

from rich.console import RenderableType
from rich.table import Table

from pandawn_tools.bench.acquire import Round
from pandawn_tools.bench.machine import Machine
from pandawn_tools.bench.peers import Peers
from pandawn_tools.bench.rates import Rates
from pandawn_tools.cli.jsonout import Json


@dataclass(frozen=True, slots=True)
class AcquireFigures:
    """AcquireJobs at one depth; medians over the slices. CPU is that of the server, per call."""

    rps: float
    ratio: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Result:
    """All figures; `engine` describes the server's backends and the load."""

    machine: Machine
    engine: Mapping[str, Json]
    empty_rps: float
    acquire: Mapping[int, AcquireFigures]
    rates: Rates
    peers: Peers


def acquire_figures(rounds: list[Round]) -> AcquireFigures:
    """Summarizes the rounds. The ratio is the median of the ratios of consecutive slices."""
    slices = [done.acquire for done in rounds]
    return AcquireFigures(
        rps=median(one.load.rps for one in slices),
        ratio=median(done.ratio for done in rounds),
        p50_ms=median(one.load.quantile_ms(0.5) for one in slices),
        p99_ms=median(one.load.quantile_ms(0.99) for one in slices),
        server_cpu_us=median(one.cpu_us.server for one in slices),
        rss_mb=slices[-1].rss_mb,
    )


def to_json(result: Result) -> dict[str, Json]:
    """The object that `pandawn bench --json` prints."""
    rates, peers = result.rates, result.peers
    return {
        "machine": asdict(result.machine),
        "engine": dict(result.engine),
        "empty_rps": round(result.empty_rps, 1),
        "acquire": {
            str(depth): {name: round(value, 3) for name, value in asdict(figures).items()}
            for depth, figures in result.acquire.items()
        },
        "renew_leases_per_s": round(rates.renew_leases, 1),
        "report_jobs_per_s": round(rates.report_jobs, 1),
        "catalog_add_files_per_s": round(rates.catalog_add_files, 1),
        "catalog_check_files_per_s": round(rates.catalog_check_files, 1),
        "peers": {
            "pgqueuer_jobs_per_s": _rounded(peers.pgqueuer),
            "procrastinate_jobs_per_s": _rounded(peers.procrastinate),
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def to_tables(result: Result) -> list[RenderableType]:
    """The same as a table for people."""
    machine = result.machine
    acquire = Table(
        title=f"AcquireJobs on {result.engine['name']}, {machine.cores} cores of {machine.cpu}, "
        f"{machine.date}; an empty handler answers {result.empty_rps:,.0f} calls/s"
    )
    for name in ("waiting", "calls/s", "ratio", "p50 ms", "p99 ms", "CPU us", "RSS MB"):
        acquire.add_column(name, justify="right")
    for depth, found in result.acquire.items():
        acquire.add_row(
            *(f"{depth:,}", f"{found.rps:,.0f}", f"{found.ratio:.2f}"),
            *(f"{found.p50_ms:.1f}", f"{found.p99_ms:.1f}"),
            *(f"{found.server_cpu_us:,.0f}", f"{found.rss_mb:,.0f}"),
        )
    others = Table(title="Other calls, and peers", show_header=False)
    others.add_column()
    others.add_column(justify="right")
    for what, value in (
        ("leases renewed a second", result.rates.renew_leases),
        ("jobs reported a second", result.rates.report_jobs),
        ("files added to the catalog a second", result.rates.catalog_add_files),
        ("files checked in the catalog a second", result.rates.catalog_check_files),
        ("pgqueuer, jobs a second", result.peers.pgqueuer),
        ("procrastinate, jobs a second", result.peers.procrastinate),
    ):
        others.add_row(what, "-" if value is None else f"{value:,.0f}")
    return [acquire, others]
