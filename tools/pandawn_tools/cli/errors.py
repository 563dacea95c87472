"""What the command line says when something goes wrong, and the exit status that goes with it."""

from collections.abc import Callable, Sequence
from enum import IntEnum

from pandawn_client.errors import Violation

# A list of a thousand bad lines helps nobody; the count is told.
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
    "Exit status: 0 done; 1 the work failed (a task that was waited for, or the demo); "
    "2 wrong usage or unusable input, nothing was sent; 3 the server refused; "
    "4 the server cannot be reached, or cannot serve now; 5 a plan has changes; 70 a bug in pandawn; "
    "130 interrupted; 141 nobody reads the output."
)


class CliError(Exception):
    """An error that the user is to read.

    `reason` is UPPER_SNAKE and stable, `message` says what failed, `details` list the causes one
    by one, `remedies` what to do about it. `violations` are the server's, for callers that can
    say them in the user's words.
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
    """Returns the server's refusal with `place(field)` where it names a field of the request.

    Whoever typed a command line knows options and lines of files, not fields.
    """
    if not error.violations:
        return error
    said = [f"{place(v.field)}: {v.description}" for v in error.violations]
    return CliError(
        error.status,
        error.reason,
        error.message,
        # The violations stand first among the details.
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
    """Returns an error about what the user gave; nothing was sent."""
    return CliError(ExitStatus.USAGE, reason, message, details=details, remedies=remedies)


def report(error: CliError) -> None:
    """Writes the error to standard error: what failed and its reason, the causes, what to do."""
    # Not for every command that goes well, nor for help.
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
    # Paths and commands are to be copied: the terminal may wrap them, rich may not.
    console.print(text, end="", soft_wrap=True)
