"""Errors of the command line: how they are printed, and their exit status."""

from collections.abc import Callable, Sequence
from enum import IntEnum

from pandawn_client.errors import Violation

# Nobody reads a thousand bad lines: of more than this, only the number is printed.
_MOST_DETAILS = 20


class ExitStatus(IntEnum):
    """Exit statuses of `pandawn`, as its help documents them."""

    DONE = 0
    WORK_FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    CHANGES = 5
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_STATUS_HELP = (
    "Exit status: 0 done; 1 the work failed (the task of a wait, or the demo); "
    "2 wrong usage or unusable input, nothing was sent; 3 the server refused; "
    "4 the server cannot be reached, or is not available now; 5 a plan has changes; 70 a bug in pandawn; "
    "130 interrupted; 141 the reader of the output has gone."
)


class CliError(Exception):
    """An error for the user to read.

    `reason` is UPPER_SNAKE and stable, `message` says what failed, `details` lists the causes,
    `remedies` says what to do. `violations` are those of the server, for callers that can name
    the options in place of the fields.
    """

    def __init__(
        self,
        status: ExitStatus,
        reason: str,
        message: str,
        *,
        details: Sequence[str] = (),
        remedies: Sequence[str] = (),
        violations: Sequence[Violation] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = tuple(details)
        self.remedies = tuple(remedies)
        self.violations = tuple(violations)


def with_places(error: CliError, place: Callable[[str], str]) -> CliError:
    """Returns the server's refusal with `place(field)` in place of each field of the request.

    Users of the command line know options and lines of files, not fields.
    """
    if not error.violations:
        return error
    said = [f"{place(v.field)}: {v.description}" for v in error.violations]
    return CliError(
        error.status,
        error.reason,
        error.message,
        # The violations are the first of the details.
        details=[*said, *error.details[len(said) :]],
        remedies=error.remedies,
        violations=error.violations,
    )


def replace_remedies(error: CliError, remedies: Sequence[str]) -> CliError:
    """Returns the same error with other advice."""
    return CliError(
        error.status,
        error.reason,
        error.message,
        details=error.details,
        remedies=remedies,
        violations=error.violations,
    )


def usage_error(
    reason: str, message: str, *, details: Sequence[str] = (), remedies: Sequence[str] = ()
) -> CliError:
    """Returns an error in the user's input; nothing was sent."""
    return CliError(ExitStatus.USAGE, reason, message, details=details, remedies=remedies)


def report(error: CliError) -> None:
    """Prints the error to standard error: what failed, its reason, the causes, and what to do."""
    # Imported here: commands that succeed, and help, do not need them.
    from rich.text import Text

    from pandawn_tools.cli.render import clean, stderr_console

    console = stderr_console()
    text = Text()
    text.append("error: ", style="bold red")
    text.append(clean(error.message))
    text.append(f" [{error.reason}]\n", style="dim")
    for detail in error.details[:_MOST_DETAILS]:
        text.append(f"  - {clean(detail)}\n")
    if len(error.details) > _MOST_DETAILS:
        text.append(f"  ... and {len(error.details) - _MOST_DETAILS} more\n")
    for remedy in error.remedies:
        text.append("  -> ", style="bold cyan")
        text.append(f"{remedy}\n")
    # No wrapping by rich, so that paths and commands can be copied.
    console.print(text, end="", soft_wrap=True)
