"""The two users of the demo, with two tasks over the same files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from pandawn.broker.v1 import task_pb2
from pandawn.queueconfig.v1 import document_pb2, parameters_pb2
from pandawn_tools.cli import inputs, sandbox, sending, taskspec
from pandawn_tools.cli.checksums import Wish
from pandawn_tools.cli.client import Client
from pandawn_tools.cli.options import to_duration
from pandawn_tools.demo.cluster import search_path
from pandawn_tools.demo.place import Place, analysis_dir, input_paths

OUTPUT = "zpeak.npz"
FILES_PER_JOB = 1
NODES = ("wn01", "wn02", "wn03")

# Short, so that the effect of a killed process is visible soon.
_LEASE = timedelta(seconds=15)
# Longer than any job of the demo, so that a job waits for the node that has its file.
_LOCALITY_WAIT = timedelta(seconds=15)

# Appends the name of a job's input to a file after its payload has succeeded. A short line in append
# mode is written atomically, even if others write too.
_WITNESS = 'out=$1; shift; python3 "$@" && for name; do :; done && echo "$name" >> "$out"'


@dataclass(frozen=True, slots=True)
class Analysis:
    """The analysis of one user."""

    user: str
    title: str
    selection: Sequence[str]

    def dataset(self, place: Place) -> str:
        """The name of the output dataset, unique to this run."""
        return f"zpeak.{self.user}.{place.run_id}"


ALICE = Analysis("alice", "all pairs of opposite charge", ())
BOB = Analysis("bob", "both pT > 25 GeV, |eta| < 2.1", ("--min-pt", "25", "--max-eta", "2.1"))
ANALYSES = (ALICE, BOB)


def queue_name(place: Place) -> str:
    """The name of the queue and the site, unique to this run, even on a shared database."""
    return f"DEMO-{place.run_id}"


def apply_queue(client: Client, place: Place) -> None:
    """Creates the queue.

    Raises:
        CliError: The server refused or cannot be reached.
    """
    parameters = parameters_pb2.QueueParameters(
        site=queue_name(place),
        status=parameters_pb2.QUEUE_STATUS_ONLINE,
        storage_root=place.storage.as_uri(),
        lease_duration=to_duration(_LEASE),
        locality_wait=to_duration(_LOCALITY_WAIT),
        # Payloads normally do not use the pilots' Python, but here it has the libraries.
        environment=parameters_pb2.StringMap(values={"PATH": search_path()}),
    )
    change = document_pb2.DocumentChange(
        kind=document_pb2.DOCUMENT_KIND_QUEUE, name=queue_name(place), parameters=parameters
    )
    client.call(client.queues.ApplyConfig, document_pb2.ApplyConfigRequest(changes=[change]))


def submit_analysis(
    client: Client, place: Place, analysis: Analysis, *, witness: bool
) -> task_pb2.Task:
    """Submits the task of a user: a build job, and run jobs over all files.

    With `witness`, each payload that succeeds adds a line to `place.completions`.

    Raises:
        CliError: The server refused or cannot be reached.
    """
    names = [inputs.Named(str(path), path.name) for path in input_paths(place)]
    run = ["zpeak.py", "--out", OUTPUT, *analysis.selection, taskspec.INPUT_MARK]
    if witness:
        path = f"{place.completions}.{analysis.user}"
        command = ["sh", "-c", _WITNESS, "witness", path, *run]
    else:
        command = ["python3", *run]
    plan = taskspec.Plan(
        user=analysis.user,
        dataset=analysis.dataset(place),
        command=command,
        queue=queue_name(place),
        inputs=inputs.inspect(names, lfn_depth=1, checksum=Wish.ALWAYS),
        files_per_job=FILES_PER_JOB,
        outputs=[OUTPUT],
        build=True,
        build_command=["python3", "-m", "compileall", "-q", "."],
    )
    return sending.send(client, plan, sandbox.pack(analysis_dir(), []))
