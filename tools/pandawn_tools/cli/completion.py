"""`pandawn completion`: the script that lets a shell complete commands, options and states."""

from enum import Enum
from typing import Annotated

import typer
from typer import completion as typers

PROGRAM = "pandawn"
VARIABLE = "_PANDAWN_COMPLETE"


class Shell(Enum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


# The classes that answer a shell that asks; typer makes them known with its own options only, and those print
# the script of the shell that they think they run in, whatever is asked for.
typers.completion_init()  # type: ignore[attr-defined]


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell.")],
) -> None:
    """Print what makes a shell complete: in ~/.bashrc, eval "$(pandawn completion bash)"."""
    script = typers.get_completion_script(  # type: ignore[attr-defined]
        prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value
    )
    print(script)
