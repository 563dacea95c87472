"""Output on the terminal: consoles, colours, and text that is safe to print."""

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.text import Text

# Width of output that does not go to a terminal: nothing is cut.
_PIPE_WIDTH = 4096
# 128 + SIGPIPE: what a shell reports of a program that wrote to a closed pipe.
_BROKEN_PIPE_STATUS = 141

STATE_STYLES = {
    "finished": "green",
    "failed": "bold red",
    "cancelled": "magenta",
    "running": "cyan",
    "holding": "cyan",
    "sent": "cyan",
    "activated": "yellow",
    "waiting": "dim",
    "live": "green",
    "lost": "bold red",
    "ended": "dim",
    "online": "green",
    "offline": "bold red",
    "test": "yellow",
    "brokeroff": "yellow",
}


class _PipeConsole(Console):
    """A console that ends the program without a message when the reader has gone."""

    def on_broken_pipe(self) -> None:
        end_on_broken_pipe()


def end_on_broken_pipe() -> None:
    """Ends the program with the status that a shell expects, so that the last flush reports no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(_BROKEN_PIPE_STATUS)


def stdout_console() -> Console:
    """Console of results, as wide as the terminal or `COLUMNS`; without either, lines are not cut."""
    return _PipeConsole(width=_width(sys.stdout), highlight=False)


def stderr_console() -> Console:
    """Console of all that is not a result: errors, hints, progress."""
    return Console(stderr=True, width=_width(sys.stderr), highlight=False)


def _width(stream: TextIO) -> int | None:
    """Returns the width; None: what rich finds for the terminal or `COLUMNS`."""
    return None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH


def clean(text: str) -> str:
    """Returns the text with control characters made visible.

    Names and error texts come from payloads and other users. An escape sequence in one of them
    must not change the reader's terminal.
    """
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    # Cc: control, Cf: format (among them those that reverse the writing direction), Cs: surrogate.
    if unicodedata.category(char) in {"Cc", "Cf", "Cs"}:
        return char.encode("unicode_escape").decode("ascii")
    return char


def location(url: str) -> str:
    """Returns the path of a `file:` URL, which people can use; other URLs stay as they are."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        return url
    return unquote(parts.path)


def state_text(state: str) -> Text:
    """Returns the state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def print_prose(text: str) -> None:
    """Prints text for people, wrapped between words."""
    stdout_console().print(Text(clean(text)))


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines of results without wrapping, so that they can be copied."""
    console = stdout_console()
    for line in lines:
        console.print(Text(clean(line)), soft_wrap=True)


def note(text: str) -> None:
    """Prints a remark to standard error."""
    stderr_console().print(Text(clean(text)), soft_wrap=True)
