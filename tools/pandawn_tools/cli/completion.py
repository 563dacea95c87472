"""`pandawn completion`: the script that lets a shell complete commands, options and states."""

from enum import Enum
from typing import Annotated

import typer
from typer import _completion_classes
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]

PROGRAM = "pandawn"
VARIABLE = "_PANDAWN_COMPLETE"


class Shell(Enum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def prepare() -> None:
    """Registers the classes that answer a shell that asks for completions.

    Typer registers them with its own options only, and those print the script of the shell that they
    run in, not of the one that is named.
    """
    completion_init()
    # It would import a Markdown parser at each press of TAB, to remove markup that no help here has.
    setattr(_completion_classes, "_sanitize_help_text", str)  # noqa: B010


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")],
) -> None:
    """Print the completion script of a shell: in ~/.bashrc, eval "$(pandawn completion bash)"."""
    script = get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value)
    print(script)
