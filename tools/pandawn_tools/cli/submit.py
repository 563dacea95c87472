"""`pandawn submit`: checks the input, uploads the code, submits the task, and may wait for it."""

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
# Set when the task, or its code, may have reached the server.
_IS_SENT = "pandawn_tools.cli.submit.is_sent"
HELP = f"""Submit a task: one command over many input files.

Write the command after --. No shell runs it. The word {taskspec.INPUT_MARK} is replaced by the names of the \
job's input files, one word for each file; the files are in the work directory of the job. Inside a longer word, \
{taskspec.INPUT_MARK} is replaced by the names with commas between them. For a shell, write \
sh -c 'cat "$@" > out' sh {taskspec.INPUT_MARK}

    pandawn submit --sandbox analysis --inputs list.dat --files-per-job 5 \\
        --output hist.root -- python3 ana.py --out hist.root {taskspec.INPUT_MARK}

Each job has its number 1, 2, 3 ... in $PANDAWN_JOB_INDEX, for example as a seed for jobs without input. Jobs \
also have $PANDAWN_TASK_ID, $PANDAWN_JOB_ID, $PANDAWN_ATTEMPT, and $PANDAWN_INPUTS_FILE, a file with the names \
of the inputs, one per line.

    pandawn submit --jobs 100 --output toy.npz --wait \\
        -- sh -c './toy --seed "$PANDAWN_JOB_INDEX"'
"""


app = PlainApp()


class SplitCommand(PlainCommand):
    """A command with options and files, and after `--` another command with its own options."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Sets aside the words after the first `--`, which are not files."""
        own = list(args)
        if "--" in own:
            position = own.index("--")
            ctx.meta[_COMMAND_KEY] = own[position + 1 :]
            own = own[:position]
        return super().parse_args(ctx, own)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Submits. If it is interrupted before anything was sent, it says so."""
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
        typer.Argument(metavar="FILE", help="Input files: paths, or file:// or root:// URLs."),
    ] = None,
    input_lists: Annotated[
        list[str] | None,
        typer.Option(
            "--inputs",
            "-i",
            metavar="LIST",
            help="File with one input path or URL per line; - is standard input. May be repeated.",
        ),
    ] = None,
    files_per_job: Annotated[
        int,
        typer.Option(
            "--files-per-job",
            "-f",
            callback=options.positive_int32,
            metavar="N",
            help="Number of input files per job.",
        ),
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            callback=options.positive_int32,
            metavar="N",
            help="Number of jobs, for a task without input files.",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            "-d",
            metavar="NAME",
            help="Output dataset, which is the directory of the outputs. Default: command and time.",
        ),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="NAME",
            help="Output file that the command writes, to be stored. May be repeated.",
        ),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(
            "--script",
            metavar="FILE",
            help="Script to run. Its arguments are the words after --, else the input files.",
        ),
    ] = None,
    sandbox_dir: Annotated[
        Path | None,
        typer.Option("--sandbox", metavar="DIR", help="Directory with code, copied to each job."),
    ] = None,
    extra: Annotated[
        list[Path] | None,
        typer.Option(
            "--extra",
            metavar="FILE",
            help="Single file with code, copied to each job. May be repeated.",
        ),
    ] = None,
    build: Annotated[
        bool,
        typer.Option(
            "--build", help="Build the code once, in a build job that runs before the others."
        ),
    ] = False,
    build_command: Annotated[
        str | None,
        typer.Option(
            "--build-command",
            metavar="COMMAND",
            help="Command of the build job as one word, such as 'make -j2'. Implies --build.",
        ),
    ] = None,
    queue: Annotated[
        str,
        typer.Option(
            "--queue",
            "-q",
            metavar="QUEUE",
            help="Queue for the jobs. Default: the server chooses one.",
        ),
    ] = "",
    site: Annotated[
        str,
        typer.Option(
            "--site",
            metavar="SITE",
            help="Site for the jobs; the server chooses one of its queues.",
        ),
    ] = "",
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            "-u",
            metavar="USER",
            help="Owner of the task. Default: your name at the server, else your login name.",
        ),
    ] = None,
    test: Annotated[
        bool,
        typer.Option("--test", help="Test task: only test tasks run on queues in status test."),
    ] = False,
    priority: Annotated[
        int,
        typer.Option(
            "--priority",
            callback=options.within(-options.MAX_INT32, options.MAX_INT32),
            metavar="N",
            help="Priority, -10000 to 10000; higher runs first.",
        ),
    ] = 0,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory per job, such as 2GiB.")
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            "--cores", callback=options.positive_int32, metavar="N", help="CPU cores per job."
        ),
    ] = None,
    disk: Annotated[
        str | None,
        typer.Option(
            "--disk", metavar="SIZE", help="Disk space per job with its input files, such as 10GiB."
        ),
    ] = None,
    wall_time: Annotated[
        str | None,
        typer.Option(
            "--wall-time", metavar="TIME", help="Maximum run time of the command, such as 2h."
        ),
    ] = None,
    max_attempts: Annotated[
        int,
        typer.Option(
            "--max-attempts",
            callback=options.within(0, options.MAX_INT32),
            metavar="N",
            help="Attempts before a job fails. Default: 3.",
            show_default=False,
        ),
    ] = 0,
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME=VALUE",
            help="Environment variable of the jobs. May be repeated.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="Label to list tasks and jobs by. May be repeated.",
        ),
    ] = None,
    checksum: Annotated[
        bool | None,
        typer.Option(
            "--checksum/--no-checksum",
            help="Compute SHA-256 checksums of local inputs, ask the servers of remote ones; nodes compare them. "
            f"Default: if all inputs have at most {format_size(AUTOMATIC_BYTES)}; else size and time identify them.",
            show_default=False,
        ),
    ] = None,
    lfn_depth: Annotated[
        int,
        typer.Option(
            "--lfn-depth",
            callback=options.positive_int32,
            metavar="N",
            help="Number of path components in the logical name of an input; 1: only the file name.",
        ),
    ] = 1,
    wait: Annotated[
        bool,
        typer.Option("--wait", "-w", help="Wait until the task has ended, and show its progress."),
    ] = False,
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Submits a task. `HELP` is the help of the command."""
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
            remedies=["give the code with --sandbox DIR or --extra FILE"],
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
        environment=options.read_pairs("--env", env or ()),
        labels=options.read_pairs("--label", label or ()),
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
            # Without credentials it is the operator of the server's machine, who must name the owner.
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
                "write it after --, such as: pandawn submit data/*.root -- python3 ana.py %IN",
                "or give a script: --script FILE",
            ],
        )
    if has_inputs and jobs is not None:
        raise usage_error(
            "INVALID_OPTION",
            "--jobs is for tasks without input files, and this one has some",
            remedies=["use --files-per-job N instead"],
        )
    if not has_inputs and jobs is None:
        raise usage_error(
            "EMPTY_FILE_LIST",
            "there are no input files",
            remedies=[
                "give files, or a list of files with --inputs LIST",
                "or use --jobs N for jobs without input",
            ],
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
            f"{format_count(unknown, 'input file')} without checksum or time: no cached copy counts as local, "
            "unless the site declares file names unique. Add checksums after the sizes in the list."
        )
    if not plan.outputs:
        note(
            "Only the log will be stored. To store files that the command writes, use --output NAME."
        )
    if task.passed_over:
        note(f"Queues not chosen: {task.passed_over}")
    if waits:
        return
    note(
        f"To wait: pandawn wait {task.task_id}; to list its jobs: pandawn jobs --task {task.task_id}; "
        f"to cancel it: pandawn kill --task {task.task_id}"
    )
