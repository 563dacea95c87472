"""Log lines of the pilot: one line each, as text or JSON, with node, pilot, job and attempt."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

# Of a longer message, its beginning and its end are logged: nobody fills a disk by what he is called.
MAX_LINE_CHARACTERS = 8000
# What a line is about, in the order in which it is printed.
CONTEXT_FIELDS = ("node", "pilot", "job", "attempt")
_LOGGER = "pandawn_pilot"
# That wait to be written.
_MOST_LINES = 10_000


class Log(_Adapter):
    """A logger that knows what its lines are about."""

    def process(
        self, msg: str, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Adds the context; logging.LoggerAdapter asks for this signature."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def set(self, **context: str) -> None:
        """Lets all further lines be about more."""
        self.extra = {**(self.extra or {}), **context}


class JobLog(Log):
    """The log of one job: its lines also go to a file that travels with the job's log tarball."""

    def __init__(self, log: Log, path: Path, *, job: str, attempt: str) -> None:
        super().__init__(log.logger, {**(log.extra or {}), "job": job, "attempt": attempt})
        self._stream = path.open("a", encoding="utf-8")
        # Payloads of other accounts pass by here.
        os.fchmod(self._stream.fileno(), 0o600)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # noqa: ANN401 (as in LoggerAdapter)
        """Logs a line, in both places."""
        super().log(level, msg, *args, **kwargs)
        if not self._stream.closed:
            text = str(msg) % args if args else str(msg)
            line = f"{_utc(time.time())} {logging.getLevelName(level)} {visible(text)}\n"
            # A payload that filled the disk may not take the job's report with it.
            with contextlib.suppress(OSError):
                self._stream.write(line)
                self._stream.flush()

    def close(self) -> None:
        """Closes the job's file; later lines go to the pilot's log only."""
        with contextlib.suppress(OSError):
            self._stream.close()


class LineFormatter(logging.Formatter):
    """One line of text: time, level, message, context as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        text = record.getMessage()
        if record.exc_info:
            text = f"{text} | {self.formatException(record.exc_info)}"
        context = "".join(f" {name}={value}" for name, value in _context(record).items())
        return f"{_utc(record.created)} {record.levelname} {visible(text)}{context}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        document = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "event": _bounded(record.getMessage(), MAX_LINE_CHARACTERS),
            **_context(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document)


class PatientHandler(logging.Handler):
    """Hands lines to a thread that writes them: a log on a disk that hangs holds up nobody.

    When more wait than is reasonable, lines are dropped; one on a full disk is lost.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes] = queue.Queue(_MOST_LINES)
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line."""
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def drain(self, seconds: float) -> None:
        """Waits until all lines are written, but no longer than so."""
        written = threading.Thread(target=self._lines.join, daemon=True)
        written.start()
        written.join(seconds)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with contextlib.suppress(OSError):
                while line:
                    line = line[os.write(self._descriptor, line) :]
            self._lines.task_done()


def make_patient_log(*, as_json: bool, node: str) -> Log:
    """The log of a process that has better things to do than to wait for its standard error."""
    return _log_to(PatientHandler(sys.stderr.fileno()), as_json, node, logging.INFO)


def drain_logs(seconds: float) -> None:
    """Gives lines that are on their way so much time, before the process ends."""
    for handler in logging.getLogger(_LOGGER).handlers:
        if isinstance(handler, PatientHandler):
            handler.drain(seconds)


def make_log(
    *, as_json: bool, node: str, stream: TextIO = sys.stderr, level: int = logging.INFO
) -> Log:
    """The log of the process."""
    return _log_to(logging.StreamHandler(stream), as_json, node, level)


def _log_to(handler: logging.Handler, as_json: bool, node: str, level: int) -> Log:
    handler.setFormatter(JsonFormatter() if as_json else LineFormatter())
    logger = logging.getLogger(_LOGGER)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(level)
    return Log(logger, {"node": node})


def _context(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(getattr(record, name)) for name in CONTEXT_FIELDS if hasattr(record, name)}


def visible(text: str, at_most: int = MAX_LINE_CHARACTERS) -> str:
    """The text in one line of bounded length, in which nothing can act on a terminal or an editor.

    What users name and payloads print comes into logs: control characters, and those that turn the
    direction of what follows or are not seen, are written as in Python, so that all that was there can
    be told.
    """
    text = _bounded(text, at_most)
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _bounded(text: str, at_most: int) -> str:
    if len(text) <= at_most:
        return text
    left_out = len(text) - at_most
    return f"{text[: at_most // 2]} [... {left_out} characters ...] {text[-at_most // 2 :]}"


def _utc(seconds: float) -> str:
    return (
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        + f".{int(seconds % 1 * 1000):03d}Z"
    )
