"""The command `pandawn-pilot`.

Exit statuses: 0 normal end (idle, drained, out of time, queue offline); 1 internal error; 2 wrong usage
or unusable directories; 3 refused by the server; 4 server unreachable; 5 stopped by signals, which
ended running jobs.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pandawn_client.connection import Connection
from pandawn_client.errors import CredentialError
from pandawn_pilot.cache.room import DEFAULT_LOW_WATER
from pandawn_pilot.credential_options import (
    add_credential_options,
    read_credentials,
    server_argument,
)
from pandawn_pilot.ending import (
    BATCH_GRACE_SECONDS,
    BATCH_VARIABLES,
    SIGNALS,
    batch_grace,
    wall_time_left,
)
from pandawn_pilot.exit_status import ExitStatus
from pandawn_pilot.job.work_dir import WorkDirBusyError
from pandawn_pilot.logs import drain_logs, make_nonblocking_log
from pandawn_pilot.node.accounts import SAME, AccountChoice, AccountError, parse_choice
from pandawn_pilot.node.hardening import hide_memory
from pandawn_pilot.node.node_name import NoNodeNameError, node_name
from pandawn_pilot.node.utf8 import use_utf8
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.pcache.command import PcacheCommand
from pandawn_pilot.pilot import Pilot
from pandawn_pilot.release import add_version
from pandawn_transports.xrootd.address import Location, parse_location

_STATUSES = """\
exit statuses:
  0  normal end: idle, drained, out of wall time, queue offline
  1  internal error
  2  wrong usage, or directories that cannot be used
  3  refused by the server
  4  server unreachable
  5  stopped by signals, which ended running payloads

signals (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU, SIGALRM, SIGPWR):
  after the first one the pilot takes no more jobs. With --grace, and in batch systems, it ends within
  that time: jobs that cannot finish are released, which does not count as a failure. Otherwise running
  jobs finish. The second signal stops them, the third kills them.
"""
# To write the last log lines, on a disk that may hang.
_LOG_SECONDS = 5.0
# Default of --grace: the batch system decides.
_BY_ENVIRONMENT = -1.0
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Variables that hold a path of the job, not its identifier.
_NO_IDENTIFIERS = ("_CONDOR_SCRATCH_DIR", "_CONDOR_JOB_AD")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    if arguments is None:
        use_utf8()
    # Before any secret is read.
    hide_memory()
    parser = _parser()
    given = parser.parse_args(arguments)
    for kind, option in (("own", "cache_dir"), ("pcache", "pcache_cmd"), ("none", "no_cache")):
        if given.cache == kind and not getattr(given, option):
            parser.error(f"--cache {kind} requires --{option.replace('_', '-')}")
    try:
        credentials = read_credentials(given, given.server)
    except CredentialError as error:
        parser.error(str(error))
    try:
        options = _options(given)
    except NoNodeNameError as error:
        parser.error(str(error))
    # Before the first thread starts: all threads inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    log = make_nonblocking_log(as_json=given.json_log, node=options.node)
    for skipped in credentials.skipped:
        log.warning("skipped a certificate authority: %s", skipped)
    connection = Connection(options.server, credentials)
    pilot = Pilot(options, connection, credentials, log)
    _handle_signals(pilot)
    try:
        status = pilot.run()
    except (WorkDirBusyError, AccountError, CredentialError, OSError) as error:
        log.error("the pilot cannot run here: %s", error)  # noqa: TRY400 (no traceback needed)
        status = ExitStatus.USAGE
    except Exception:
        log.exception("the pilot failed with an internal error")
        status = ExitStatus.INTERNAL_ERROR
    finally:
        connection.close()
    log.info("exiting with status %d", status)
    drain_logs(_LOG_SECONDS)
    return int(status)


def _handle_signals(pilot: Pilot) -> None:
    """Waits for signals in a separate thread, as a signal handler cannot take locks safely."""

    def wait() -> None:
        while True:
            pilot.ending.handle(signal.Signals(signal.sigwait(SIGNALS)))

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pandawn-pilot",
        description="Takes jobs from a Pandawn server and runs them on this worker node.",
    )
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="take and run jobs",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_places(run)
    _add_security(run)
    _add_bounds(run)
    _add_offer(run)
    run.add_argument("--json-log", action="store_true", help="log lines as JSON objects")
    return parser


def _add_places(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--server",
        type=server_argument,
        default=os.environ.get("PANDAWN_SERVER") or None,
        required=not os.environ.get("PANDAWN_SERVER"),
        metavar="ADDRESS",
        help="the server, HOST:PORT or unix:PATH (default: PANDAWN_SERVER)",
    )
    run.add_argument("--queue", required=True, help="queue to work for")
    run.add_argument(
        "--work-dir",
        required=True,
        type=Path,
        metavar="DIR",
        help="where jobs run; each pilot needs its own",
    )
    cache = run.add_mutually_exclusive_group(required=True)
    cache.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="the node's cache of input files, shared by all its pilots",
    )
    cache.add_argument(
        "--pcache-cmd",
        type=_pcache,
        metavar="COMMAND",
        help="the site's pcache with its options, as in 'pcache.py -s /scratch -m 80%%'",
    )
    cache.add_argument(
        "--no-cache", action="store_true", help="transfer each input for its job only"
    )
    run.add_argument(
        "--local-xrootd",
        type=_location,
        metavar="root://HOST:PORT//DIR",
        help="an XRootD server on this node: files that it holds are read from it",
    )
    run.add_argument(
        "--cache",
        choices=("own", "pcache", "none"),
        help="kind of cache (default: implied by --cache-dir, --pcache-cmd or --no-cache)",
    )
    run.add_argument("--node", help="name of the worker node (default: the full host name)")
    run.add_argument(
        "--batch-id", help="identifier in the batch system (default: as the batch system says)"
    )
    run.add_argument(
        "--keep-work-dir", action="store_true", help="keep the directories of ended jobs"
    )


def _add_security(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group(
        "credentials and payloads",
        "how the pilot authenticates, and how payloads are isolated from it",
    )
    add_credential_options(group)
    group.add_argument(
        "--keep-token-file",
        action="store_true",
        help="keep the token file even if payloads, under the same account, can read it",
    )
    group.add_argument(
        "--payload-user",
        type=_account_choice,
        metavar="USER",
        help="as root: account of payloads, a name, a number, or FIRST-LAST for one per job"
        f" (default: as the queue says, else a free number per job); {SAME!r}: the pilot's own",
    )


def _add_bounds(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--max-jobs", type=_count, default=1, metavar="N", help="jobs at a time (default: 1)"
    )
    run.add_argument(
        "--idle-exit", type=_seconds, metavar="SECONDS", help="exit after this time without a job"
    )
    run.add_argument(
        "--wall-time",
        type=_seconds,
        metavar="SECONDS",
        help="total time of the pilot (default: from Slurm, else no limit)",
    )
    run.add_argument(
        "--grace",
        type=_grace,
        default=_BY_ENVIRONMENT,
        metavar="SECONDS",
        help="time from a signal to the pilot's end; must be shorter than the batch system's delay before"
        f" SIGKILL; none: until running jobs end (default: {BATCH_GRACE_SECONDS:.0f} in a batch system,"
        " else none)",
    )
    run.add_argument(
        "--connect-timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long to retry reaching the server at the start (default: 600)",
    )
    run.add_argument(
        "--heartbeat",
        type=_seconds,
        metavar="SECONDS",
        help="interval between heartbeats (default: as the queue says)",
    )
    run.add_argument(
        "--cache-size",
        type=parse_size,
        metavar="BYTES",
        help="high water mark of the cache, with K M G T or Ki Mi Gi Ti (default: 80%% of its disk)",
    )
    run.add_argument(
        "--cache-low-water",
        type=_fraction,
        default=DEFAULT_LOW_WATER,
        metavar="FRACTION",
        help=f"low water mark as a fraction of --cache-size (default: {DEFAULT_LOW_WATER})",
    )


def _add_offer(run: argparse.ArgumentParser) -> None:
    run.add_argument("--cores", type=_count, metavar="N", help="cores for each job")
    run.add_argument("--memory", type=parse_size, metavar="BYTES", help="memory for each job")
    run.add_argument(
        "--disk", type=parse_size, metavar="BYTES", help="disk for each job (default: free space)"
    )


def _options(given: argparse.Namespace) -> PilotOptions:
    batch = next(
        (os.environ[n] for n in BATCH_VARIABLES if n in os.environ and n not in _NO_IDENTIFIERS), ""
    )
    return PilotOptions(
        server=given.server,
        queue=given.queue,
        node=node_name(given.node, given.cache_dir),
        work_dir=given.work_dir.absolute(),
        cache_dir=given.cache_dir.absolute() if given.cache_dir else None,
        pcache=given.pcache_cmd,
        cache_bytes=given.cache_size,
        cache_low_water=given.cache_low_water,
        local_xrootd=given.local_xrootd,
        max_jobs=given.max_jobs,
        idle_exit=given.idle_exit,
        wall_time=given.wall_time or wall_time_left(os.environ),
        grace=batch_grace(os.environ) if given.grace == _BY_ENVIRONMENT else given.grace,
        connect_timeout=given.connect_timeout,
        heartbeat=given.heartbeat,
        cores=given.cores,
        memory_bytes=given.memory,
        disk_bytes=given.disk,
        batch_id=batch if given.batch_id is None else given.batch_id,
        keep_work_dir=given.keep_work_dir,
        payload_user=given.payload_user,
        keep_token_file=given.keep_token_file,
    )


def parse_size(text: str) -> int:
    """Bytes of `12`, `12GB`, `1.5 GiB`. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if match is None or (match[3] and not match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it like 500M or 20GiB")
    unit = match[2].upper()
    factor = _BINARY_UNITS[unit] if match[3] else _UNITS[unit]
    return int(float(match[1]) * factor)


def _location(text: str) -> Location:
    try:
        return parse_location(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pcache(text: str) -> PcacheCommand:
    try:
        return PcacheCommand(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _account_choice(text: str) -> AccountChoice:
    try:
        return parse_choice(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 100")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _grace(text: str) -> float | None:
    return None if text == "none" else _seconds(text)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
