"""How things look on the terminal: consoles, colours, and text that is safe to print."""

import os
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.text import Text

# Output that is piped somewhere is not cut to a terminal that is not there.
_PIPE_WIDTH = 4096
# 128 + SIGPIPE, what a shell makes of a program that writes to a closed pipe.
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
    """A console that ends the program quietly when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        end_on_broken_pipe()


def end_on_broken_pipe() -> None:
    """Ends the program the way a shell expects; the interpreter's last flush must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(_BROKEN_PIPE_STATUS)


def stdout_console() -> Console:
    """Console of results. As wide as the terminal, or as `COLUMNS` says, or not limited at all."""
    return _PipeConsole(width=_width(sys.stdout), highlight=False)


def stderr_console() -> Console:
    """Console of everything that is not a result: errors, hints, progress."""
    return Console(stderr=True, width=_width(sys.stderr), highlight=False)


def _width(stream: TextIO) -> int | None:
    """Returns how wide to write; None for as wide as rich finds the terminal or `COLUMNS`."""
    return None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH


def clean(text: str) -> str:
    """Returns the text with control characters made visible.

    Names and error texts come from payloads and other users; an escape sequence in one of them
    must not move the reader's cursor.
    """
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    # Cc: control, Cf: format (among them those that reverse the writing direction), Cs: surrogate.
    if unicodedata.category(char) in {"Cc", "Cf", "Cs"}:
        return char.encode("unicode_escape").decode("ascii")
    return char


def location(url: str) -> str:
    """Returns the path that a `file:` URL names, for people to use; other URLs as they are."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        return url
    return unquote(parts.path)


def state_text(state: str) -> Text:
    """Returns the state in its colour; the word alone says it all where there is none."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def print_prose(text: str) -> None:
    """Prints a sentence for people, wrapped between words."""
    stdout_console().print(Text(clean(text)))


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines of results as they are: one too long for the terminal can still be copied."""
    console = stdout_console()
    for line in lines:
        console.print(Text(clean(line)), soft_wrap=True)


def note(text: str) -> None:
    """Says something beside the result."""
    stderr_console().print(Text(clean(text)), soft_wrap=True)
