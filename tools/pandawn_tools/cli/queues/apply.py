"""`pandawn queues apply`: a directory of files, or options for one queue."""

from pathlib import Path
from typing import Annotated

import typer

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.cli import options, words
from pandawn_tools.cli.errors import usage_error
from pandawn_tools.cli.queues.common import MessageOption, RemovalsOption, parameter_names
from pandawn_tools.cli.queues.files import DeleteOption, OfSiteOption, apply_directory
from pandawn_tools.cli.queues.single import EtagOption, ResetOption, send_queue

# Parameters that have an option here; the others are set by `pandawn queues set`.
_OPTIONS = {
    "site": "site",
    "cloud": "cloud",
    "status": "status",
    "max-input": "max_input_bytes",
    "max-work-dir": "max_work_dir_bytes",
    "max-wall-time": "max_wall_time",
    "memory": "memory_bytes",
    "cores": "cores",
    "storage-root": "storage_root",
    "lease": "lease_duration",
    "locality-wait": "locality_wait",
    "priority-band": "priority_band",
}
_ONE = "One queue"


def apply(
    ctx: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="DIR|QUEUE",
            help="A directory of queue files (`./DIR`, or any that exists), or one queue.",
        ),
    ],
    message: MessageOption = "",
    delete: DeleteOption = False,
    of_site: OfSiteOption = None,
    allow_offline: RemovalsOption = None,
    site: Annotated[
        str | None,
        typer.Option(
            metavar="SITE",
            help="Site of the queue; for a new one by default its own name.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    cloud: Annotated[
        str | None,
        typer.Option(metavar="CLOUD", help="Region of the site.", rich_help_panel=_ONE),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(
            metavar="STATUS",
            help="online, offline, test, brokeroff or paused.",
            autocompletion=words.queue_status_words,
            rich_help_panel=_ONE,
        ),
    ] = None,
    max_input: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Maximum input of one job; 0: no limit.", rich_help_panel=_ONE
        ),
    ] = None,
    max_work_dir: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Maximum work directory of a job; 0: no limit.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    max_wall_time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Maximum run time of a payload.", rich_help_panel=_ONE),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Memory of a job slot; 0: no limit.", rich_help_panel=_ONE
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            callback=options.positive_int32,
            metavar="N",
            help="Cores of a job slot.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    storage_root: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Where outputs go: a directory, file:// or root:// URL.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time without a heartbeat after which a pilot's jobs go to another.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    locality_wait: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Maximum time for which a job is held for a node that has its files.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    priority_band: Annotated[
        int | None,
        typer.Option(
            callback=options.positive_int32,
            metavar="N",
            help="Priorities that count as equal.",
            rich_help_panel=_ONE,
        ),
    ] = None,
    reset: ResetOption = None,
    etag: EtagOption = "",
    json_output: options.JsonOption = False,
    server: options.ServerOption = None,
) -> None:
    """Apply a directory of files to the server's queues, in one transaction.

    Or create or change one queue by options; `pandawn queues set` can set all parameters.
    """
    wall_time = options.duration_option("--max-wall-time", max_wall_time)
    lease_span = options.duration_option("--lease", lease)
    wait_span = options.duration_option("--locality-wait", locality_wait)
    queue = parameters_pb2.QueueParameters(
        site=site,
        cloud=cloud,
        status=None if status is None else words.read_queue_status(status),
        max_input_bytes=options.size_option("--max-input", max_input),
        max_work_dir_bytes=options.size_option("--max-work-dir", max_work_dir),
        max_wall_time=None if wall_time is None else options.to_duration(wall_time),
        memory_bytes=options.size_option("--memory", memory),
        cores=cores,
        storage_root=None if storage_root is None else _storage_url(storage_root),
        lease_duration=None if lease_span is None else options.to_duration(lease_span),
        locality_wait=None if wait_span is None else options.to_duration(wait_span),
        priority_band=priority_band,
    )
    was_set = [field.name for field, _ in queue.ListFields()]
    if _is_directory(target, has_options=bool(was_set or reset or etag)):
        if not message.strip():
            raise usage_error(
                "NO_MESSAGE",
                "give a reason with -m TEXT: it is stored in the history",
                details=["nothing was sent"],
            )
        with options.connect(ctx, server) as client:
            apply_directory(
                client,
                Path(target).expanduser(),
                message=message,
                delete=delete,
                of_site=of_site,
                allowed=allow_offline,
                json_output=json_output,
            )
        return
    if delete or of_site is not None or allow_offline is not None:
        raise usage_error(
            "INVALID_OPTION",
            f"{target} is not a directory: --delete, --of-site and --allow-offline are for directories",
            remedies=[f"if you meant a directory: there is none at {Path(target).absolute()}"],
        )
    mask = [*was_set, *_fields_to_reset(reset or [], was_set)]
    with options.connect(ctx, server) as client:
        send_queue(
            client,
            target,
            queue,
            mask=mask,
            etag=etag,
            allowed=None,
            message=message,
            json_output=json_output,
            places={field: f"--{name}" for name, field in _OPTIONS.items()},
        )


def _is_directory(target: str, *, has_options: bool) -> bool:
    """Whether the target is a directory. No queue has a slash in its name, and files have no options."""
    looks_like_one = "/" in target or target in {".", "..", "~"}
    if not has_options:
        return looks_like_one or Path(target).is_dir()
    if looks_like_one:
        raise usage_error(
            "INVALID_OPTION",
            f"{target} is a directory, but the options set parameters of one queue",
            remedies=["write the values to its file, or name the queue instead"],
        )
    return False


def _fields_to_reset(names: list[str], was_set: list[str]) -> list[str]:
    today = [_OPTIONS.get(name.removeprefix("--").replace("_", "-"), name) for name in names]
    fields = parameter_names(today, "--reset")
    for name, field in zip(names, fields, strict=False):
        if field in was_set:
            raise usage_error("INVALID_OPTION", f"--reset {name}: it is set by the same command")
    return fields


def _storage_url(text: str) -> str:
    if "://" in text or not text:
        return text
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise usage_error(
            "INVALID_OPTION",
            f"--storage-root {text}: the path must be absolute",
            details=["pilots on other machines have other working directories"],
            remedies=[f"write {path.absolute()}, if it is the same directory on all nodes"],
        )
    return path.as_uri()
