"""Draws a comparison: the bytes that each policy saves, with the upper bound, and how long jobs wait."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

# Must be set before pyplot is imported; there may be no screen.
mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from pandawn_tools.simulate.run import Comparison

_INK = "#1f2933"
_MUTED = "#7b8794"
_OURS = "#2a9d8f"
_OTHERS = "#b8c4ce"


def draw(comparison: Comparison, path: Path) -> None:
    """Writes the picture; the suffix of `path` sets its format. Raises OSError or ValueError."""
    figure, (hits, waits) = plt.subplots(1, 2, figsize=(9.5, 3.6), constrained_layout=True)
    names = list(comparison.policies)
    found = list(comparison.policies.values())
    colours = [_OURS if name == "pandawn" else _OTHERS for name in names]
    bars = hits.bar(names, [one.byte_hit for one in found], color=colours)
    hits.bar_label(bars, fmt="%.2f", color=_INK)
    bound = comparison.workload.bound_byte_hit
    hits.axhline(bound, color=_MUTED, linestyle="--", linewidth=1)
    hits.text(-0.4, bound + 0.015, f"one infinite cache: {bound:.2f}", color=_MUTED, fontsize=9)
    hits.set_ylim(0, 1)
    hits.set_title("Fraction of input bytes found on the node", fontsize=11, color=_INK)
    places = range(len(names))
    for offset, label, seconds, colour in (
        (-0.27, "half of the jobs", [one.wait_p50_s for one in found], "#cfd8df"),
        (0.0, "99 %", [one.wait_p99_s for one in found], "#8fa1b0"),
        (0.27, "all", [one.max_wait_s for one in found], "#52667a"),
    ):
        hours = [value / 3600 for value in seconds]
        waits.bar([place + offset for place in places], hours, 0.25, color=colour, label=label)
    waits.set_xticks(list(places), names)
    waits.set_title("Hours until ... had a slot", fontsize=11, color=_INK)
    waits.legend(frameon=False, fontsize=9)
    for axes in (hits, waits):
        _plain(axes)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_MUTED)
    axes.tick_params(colors=_INK, labelsize=9)
