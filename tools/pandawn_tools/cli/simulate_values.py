"""Values of `pandawn simulate`: times, intervals, and the file of the plot."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from pandawn_tools.cli.errors import CliError, ExitStatus, usage_error
from pandawn_tools.cli.units import parse_duration

if TYPE_CHECKING:
    from pandawn_tools.simulate.run import Comparison


def seconds(option: str, text: str) -> float:
    """Reads a duration and returns seconds; a number without a unit is seconds, as in the output."""
    try:
        return parse_duration(
            f"{text}s" if text.replace(".", "", 1).isdecimal() else text
        ).total_seconds()
    except ValueError as error:
        raise usage_error("BAD_TIME", f"{option}: {error}") from error


def intervals(text: str) -> tuple[tuple[float, float], ...]:
    """Reads times such as `2h-3h,10h-11h`, and returns their begins and ends in seconds. Raises CliError."""
    found = []
    for part in filter(None, text.split(",")):
        begin, dash, end = part.partition("-")
        interval = (seconds("--memcached-down", begin), seconds("--memcached-down", end or "0"))
        if not dash or interval[0] >= interval[1]:
            raise usage_error("BAD_TIME", f"--memcached-down: {part!r} is not like 2h-3h")
        found.append(interval)
    return tuple(found)


def check_plot(path: Path | None) -> None:
    """Checks that a plot can be written, before minutes of work. Raises CliError."""
    if path is None:
        return
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise usage_error("BAD_PLOT", f"--plot: {str(path)!r} does not end in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise usage_error("BAD_PLOT", f"--plot: there is no directory {str(path.parent)!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CliError(
            ExitStatus.USAGE,
            "NO_MATPLOTLIB",
            "--plot needs matplotlib, which is not installed",
            remedies=["pip install 'pandawn[demo]', or leave out --plot"],
        )


def draw_plot(comparison: "Comparison", path: Path) -> None:
    """Writes the plot of a comparison. Raises CliError if the file cannot be written."""
    from pandawn_tools.simulate.plot import draw

    try:
        draw(comparison, path)
    except OSError as error:
        raise usage_error(
            "BAD_PLOT", f"--plot: {path} cannot be written: {error.strerror}"
        ) from error
