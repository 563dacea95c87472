"""`pandawn submit`: checks what the user gave, uploads the code, submits the task, may wait."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pandawn.broker.v1 import task_pb2
from pandawn_tools.cli import inputs, options, sandbox, taskspec
from pandawn_tools.cli.checksums import AUTOMATIC_BYTES, Wish
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.jsonout import message_json, print_json
from pandawn_tools.cli.outcome import finish
from pandawn_tools.cli.plain import PlainApp, PlainCommand
from pandawn_tools.cli.progress import count
from pandawn_tools.cli.render import location, note, print_lines
from pandawn_tools.cli.sending import note_nothing_sent, send
from pandawn_tools.cli.units import format_count, format_size

_COMMAND_KEY = "pandawn_tools.cli.submit.command"
# There from when the task, or code for it, may be at the server.
_IS_SENT = "pandawn_tools.cli.submit.is_sent"
HELP = f"""Submit a task: one command over many input files.

The command stands after a --, and no shell reads it. {taskspec.INPUT_MARK} as a word of its \
own becomes the names of the job's input files, a word each; they lie in its work directory. Inside a word it \
becomes one text with commas: for a shell, write sh -c 'cat "$@" > out' sh {taskspec.INPUT_MARK}

    pandawn submit --sandbox analysis --inputs list.dat --files-per-job 5 \\
        --output hist.root -- python3 ana.py --out hist.root {taskspec.INPUT_MARK}

Jobs without input differ by PANDAWN_JOB_INDEX, which is 1, 2, 3 ...: a seed, say. The environment has \
PANDAWN_TASK_ID, PANDAWN_JOB_ID and PANDAWN_ATTEMPT too, and PANDAWN_INPUTS_FILE names a file with the names \
of the inputs, one a line.

    pandawn submit --jobs 100 --output toy.npz --wait \\
        -- sh -c './toy --seed "$PANDAWN_JOB_INDEX"'
"""


app = PlainApp()


class SplitCommand(PlainCommand):
    """A command whose line is two: options and files, and after `--` words that are not its own."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Keeps the words after the first `--` from being taken for files."""
        own = list(args)
        if "--" in own:
            position = own.index("--")
            ctx.meta[_COMMAND_KEY] = own[position + 1 :]
            own = own[:position]
        return super().parse_args(ctx, own)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Submits; whoever interrupts it before anything was sent is told so."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if _IS_SENT not in ctx.meta:
                note_nothing_sent()
            raise


@app.command(cls=SplitCommand, help=HELP)
def submit(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Input files: paths or file:// URLs."),
    ] = None,
    input_lists: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            "-i",
            metavar="LIST",
            help="File with one input path or URL a line; - for standard input. May be repeated.",
        ),
    ] = None,
    files_per_job: Annotated[
        int,
        typer.Option(
            "--files-per-job",
            "-f",
            callback=options.positive_int32,
            metavar="N",
            help="Input files a job.",
        ),
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            callback=options.positive_int32,
            metavar="N",
            help="Number of jobs of a task without input.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            metavar="NAME",
            help="Output dataset, the directory of the outputs. Default: command and time.",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NAME",
            help="File that the command writes and that is to be kept. May be repeated.",
        ),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(
            "--script",
            metavar="FILE",
            help="Script to run; what follows -- are its arguments, else the input files.",
        ),
    ] = None,
    sandbox_dir: Annotated[
        Path | None,
        typer.Option("--sandbox", metavar="DIR", help="Directory of code that each job gets."),
    ] = None,
    extra: Annotated[
        list[Path] | None,
        typer.Option("--extra", metavar="FILE", help="One more file of code. May be repeated."),
    ] = None,
    build: Annotated[
        bool,
        typer.Option("--build", help="Build the code once, in a job of its own that runs first."),
    ] = False,
    build_command: Annotated[
        str | None,
        typer.Option(
            "--build-command",
            metavar="COMMAND",
            help="Command of the build job, in quotes, such as 'make -j2'. Implies --build.",
        ),
    ] = None,
    queue: Annotated[
        str, typer.Option("--queue", "-q", metavar="QUEUE", help="Queue to run on.")
    ] = "",
    site: Annotated[
        str, typer.Option("--site", metavar="SITE", help="Site to run at, on any of its queues.")
    ] = "",
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            "-u",
            metavar="USER",
            help="Whose it is. Default: who you are to the server, or your login name.",
        ),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="A test of a queue: only such goes to queues in status test."),
    ] = False,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            callback=options.within(-options.MAX_INT32, options.MAX_INT32),
            metavar="N",
            help="Higher goes first, -10000 to 10000.",
        ),
    ] = 0,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory a job needs: 2GiB.")
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            "--cores", callback=options.positive_int32, metavar="N", help="Cores a job needs."
        ),
    ] = None,
    disk: Annotated[
        str | None,
        typer.Option("--disk", metavar="SIZE", help="Disk a job needs, inputs included: 10GiB."),
    ] = None,
    wall_time: Annotated[
        str | None,
        typer.Option("--wall-time", metavar="TIME", help="Longest run of the command: 2h."),
    ] = None,
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            callback=options.within(0, options.MAX_INT32),
            metavar="N",
            help="Tries at a job before it fails. Default: 3.",
            show_default=False,
        ),
    ] = 0,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME=VALUE", help="Environment. May be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="A label, by which tasks and jobs can be listed. May be repeated.",
        ),
    ] = None,
    checksum: Annotated[
        bool | None,
        typer.Option(
            "--checksum/--no-checksum",
            help="Read the inputs for their SHA-256, which nodes compare; of remote files, ask the server. "
            f"Default: read them up to {format_size(AUTOMATIC_BYTES)} a task; else size and time tell.",
            show_default=False,
        ),
    ] = None,
    lfn_depth: Annotated[
        int,
        typer.Option(
            "--lfn-depth",
            callback=options.positive_int32,
            metavar="N",
            help="Parts of the path that make the logical name of an input; 1 is the file's name.",
        ),
    ] = 1,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Wait until the task has ended; show progress.")
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Submits a task; the help of the command is `HELP`."""
    words = list(ctx.meta.get(_COMMAND_KEY, ()))
    names = [named for path in input_lists or () for named in inputs.read_list(path)]
    names += inputs.name_arguments(files or ())
    _check_shape(words, script, has_inputs=bool(names), jobs=jobs)
    wish = {None: Wish.AUTOMATIC, True: Wish.ALWAYS, False: Wish.NEVER}[checksum]
    found = inputs.inspect(names, lfn_depth=lfn_depth, checksum=wish)
    if script is not None:
        command = taskspec.script_command(script, words, has_inputs=bool(names))
    else:
        taskspec.check_command(words)
        command = words
    extras = [*(extra or ()), *([script] if script is not None else [])]
    build_words = taskspec.split_command("--build-command", build_command or "")
    has_build = build or bool(build_words)
    if has_build and sandbox_dir is None and not extras:
        raise usage_error(
            "INVALID_OPTION",
            "--build needs code to build",
            remedies=["name it with --sandbox DIR or --extra FILE"],
        )
    plan = taskspec.Plan(
        user=user or "",
        dataset=dataset if dataset is not None else taskspec.fresh_dataset(command),
        command=command,
        queue=queue,
        site=site,
        inputs=found,
        files_per_job=files_per_job,
        job_count=jobs or 0,
        outputs=output or (),
        build=has_build,
        build_command=build_words,
        environment=taskspec.read_pairs("--env", env or ()),
        labels=taskspec.read_pairs("--label", label or ()),
        resources=taskspec.Resources(
            memory_bytes=options.size_option("--memory", memory),
            cores=cores,
            disk_bytes=options.size_option("--disk", disk),
            wall_time=options.duration_option("--wall-time", wall_time),
        ),
        priority=priority,
        max_attempts=max_attempts,
        test=test,
    )
    taskspec.warn_of_joined_inputs(command, min(files_per_job, len(found)))
    archive = sandbox.pack(sandbox_dir, extras) if sandbox_dir is not None or extras else b""
    with options.connect(ctx, server, patient=wait) as client:
        if user is None and not client.credentials.shows_anything:
            # Whoever shows nothing is the operator of the server's machine, who says for whom it is.
            plan = replace(plan, user=taskspec.login_name())
        ctx.meta[_IS_SENT] = True
        task = send(client, plan, archive)
        if not json_output:
            _announce(task, plan, waits=wait)
        elif not wait:
            print_json(message_json(task))
        if wait:
            finish(client, task.task_id, json_output=json_output)


def _check_shape(
    words: list[str], script: Path | None, *, has_inputs: bool, jobs: int | None
) -> None:
    if not words and script is None:
        raise usage_error(
            "NO_COMMAND",
            "there is no command to run",
            remedies=[
                "put it after a --, such as: pandawn submit data/*.root -- python3 ana.py %IN",
                "or name a script: --script FILE",
            ],
        )
    if has_inputs and jobs is not None:
        raise usage_error(
            "INVALID_OPTION",
            "--jobs is for tasks without input, and there are input files",
            remedies=["say --files-per-job N instead"],
        )
    if not has_inputs and jobs is None:
        raise usage_error(
            "EMPTY_FILE_LIST",
            "there are no input files",
            remedies=["name them, or a list of them with --inputs LIST", "or say --jobs N"],
        )


def _announce(task: task_pb2.Task, plan: taskspec.Plan, *, waits: bool) -> None:
    builds = 1 if plan.build else 0
    runs = count(task) - builds
    what = format_count(runs, "run job")
    if builds:
        what = f"a build job and {what}"
    size = sum(file.size_bytes for file in plan.inputs)
    over = (
        f" over {format_count(len(plan.inputs), 'file')}, {format_size(size)}"
        if plan.inputs
        else ""
    )
    print_lines(
        [
            f"task {task.task_id} of {task.user}: {what}{over}, on queue {task.queue}",
            f"dataset {task.dataset}"
            + (f" at {location(task.output_url)}" if task.output_url else ""),
        ]
    )
    unknown = sum(not file.version for file in plan.inputs)
    if unknown:
        note(
            f"{format_count(unknown, 'input file')} named without checksum or time: no node counts as holding such, "
            "unless the site declares their names unique. Write checksums behind the sizes in the list."
        )
    if not plan.outputs:
        note(
            "Of what the command writes nothing is kept but its log: name files with --output NAME."
        )
    if task.passed_over:
        note(f"Passed over: {task.passed_over}")
    if waits:
        return
    note(
        f"Follow it: pandawn wait {task.task_id}; its jobs: pandawn jobs --task {task.task_id}; "
        f"end it: pandawn kill --task {task.task_id}"
    )
