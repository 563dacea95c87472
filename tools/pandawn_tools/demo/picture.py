"""Draws the result: the Z peak of both analyses, and the sources of their input bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

# Must be set before pyplot is imported; there may be no screen.
mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.units import format_share, format_size
from pandawn_tools.demo.result import TaskResult
from pandawn_tools.demo.users import ALICE, BOB, OUTPUT

# Mass of the Z boson, GeV: Particle Data Group, Phys. Rev. D 110 (2024) 030001.
_Z_MASS_GEV = 91.188
_RANGE_GEV = (60.0, 120.0)
_BINS = 60

_INK = "#1f2933"
_MUTED = "#7b8794"
_ALICE = "#2a9d8f"
_BOB = "#264653"
_MOVED = "#e9a35b"
_CACHED = "#2a9d8f"


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged outputs of a task: masses in GeV, each pair of muons once."""

    masses: npt.NDArray[np.float64]
    files: int
    pairs: int


def merge(output_dir: Path) -> Merged:
    """Merges the outputs of a task; a pair that is in several inputs counts once.

    Raises:
        CliError: There are no outputs, or one cannot be read.
    """
    paths = sorted(output_dir.glob(f"*.{OUTPUT}"))
    try:
        pieces = [np.load(path)["pairs"] for path in paths]
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(output_dir, str(error)) from error
    if not pieces:
        raise _unusable(output_dir, f"there is no file called *.{OUTPUT}")
    pairs = np.concatenate(pieces)
    return Merged(masses=np.unique(pairs)["mass"], files=len(paths), pairs=len(pairs))


def _unusable(output_dir: Path, cause: str) -> CliError:
    return CliError(
        ExitStatus.WORK_FAILED,
        "DEMO_FAILED",
        f"the outputs in {output_dir} cannot be merged",
        details=[cause],
    )


def draw(tasks: Sequence[TaskResult], path: Path) -> None:
    """Draws the picture of two tasks into a PNG file.

    Raises:
        CliError: The outputs cannot be read.
        OSError: The picture cannot be written.
    """
    merged = [merge(Path(task.output_dir)) for task in tasks]
    with mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _MUTED,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, 4.6), width_ratios=(1.75, 1), layout="constrained"
        )
        _draw_peak(left, merged)
        _draw_bytes(right, tasks)
        _save(figure, path)


def _draw_peak(axes: Axes, merged: Sequence[Merged]) -> None:
    edges = np.linspace(*_RANGE_GEV, _BINS + 1)
    alice, bob = (np.histogram(one.masses, edges)[0] for one in merged)
    axes.stairs(alice, edges, fill=True, color=_ALICE, alpha=0.30)
    axes.stairs(alice, edges, color=_ALICE, linewidth=1.4, label=f"{ALICE.user}: {ALICE.title}")
    # A histogram too, because points would look like data over a simulation, but these are some of the same pairs.
    axes.stairs(bob, edges, fill=True, color=_BOB, alpha=0.30)
    axes.stairs(bob, edges, color=_BOB, linewidth=1.4, label=f"{BOB.user}: {_in_maths(BOB.title)}")
    axes.axvline(_Z_MASS_GEV, color=_MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    top = float(alice.max())
    axes.annotate(
        f"Z, {_Z_MASS_GEV:.1f} GeV",
        (_Z_MASS_GEV, top * 1.06),
        xytext=(6, 0),
        textcoords="offset points",
        color=_MUTED,
        va="center",
    )
    axes.set(xlim=_RANGE_GEV, ylim=(0, top * 1.12))
    axes.set_xlabel("invariant mass of two muons of opposite charge, GeV")
    axes.set_ylabel("pairs per GeV")
    axes.set_title("The Z peak, from 2 tasks over 12 files on 3 nodes", loc="left", weight="bold")
    axes.legend(frameon=False, loc="upper left")
    first = merged[0]
    axes.text(
        0.012,
        0.72,
        "CMS data of 2010 and simulated events:\n"
        f"{first.pairs:,} pairs in {first.files} outputs; {len(first.masses):,} once\n"
        "files that differ only in compression\nare merged",
        transform=axes.transAxes,
        color=_MUTED,
        fontsize=8.5,
        va="top",
    )


def _in_maths(title: str) -> str:
    """Formats the quantities of a selection in mathematical notation."""
    return title.replace("pT", r"$p_T$").replace("|eta|", r"$|\eta|$")


def _draw_bytes(axes: Axes, tasks: Sequence[TaskResult]) -> None:
    rows = range(len(tasks))
    cached = [task.bytes_from_cache for task in tasks]
    moved = [task.input_bytes - task.bytes_from_cache for task in tasks]
    unit = 1024.0**2
    widths = [value / unit for value in moved]
    axes.barh(rows, widths, 0.42, color=_MOVED, label="moved to the node")
    axes.barh(
        rows,
        [value / unit for value in cached],
        0.42,
        widths,
        color=_CACHED,
        label="from its cache",
    )
    for row, task in zip(rows, tasks, strict=True):
        share = format_share(task.bytes_from_cache, task.input_bytes)
        axes.text(
            0,
            row - 0.27,
            f"task {task.task_id}, {task.user}: {share} of {format_size(task.input_bytes)} from caches",
            va="bottom",
        )
    axes.set(ylim=(len(tasks) - 0.3, -0.6), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("input of all jobs, MiB")
    axes.set_title("Where the input came from", loc="left", weight="bold")
    axes.legend(frameon=False, loc="lower left", ncols=2, borderaxespad=0.2)


def _save(figure: Figure, path: Path) -> None:
    # Replaced atomically, for viewers that watch the file.
    draft = path.with_suffix(".part")
    figure.savefig(draft, format="png", dpi=160)
    plt.close(figure)
    draft.replace(path)
