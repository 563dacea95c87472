"""What the server takes of an attacker's words comes back as it was sent: nothing has read meaning into it."""

from __future__ import annotations

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, job_pb2, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2_grpc, pilot_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc, lookup_pb2
from pandawn.monitor.v1 import monitor_pb2, monitor_pb2_grpc
from pandawn_server.wire.edge import rules
from tests.fixtures import nasty
from tests.fixtures.besieged import TIMEOUT_S, Besieged, new_request_id

NAMES = [text for text in nasty.TEXTS if rules.lfn_problem(text) is None]
WORDS = [text for text in nasty.TEXTS if rules.text_problem(text, 255) is None]
SITE, NODE = "T3", "wn07.example.org"


def test_enough_of_the_attacks_are_accepted_to_prove_something() -> None:
    assert len(NAMES) > 10
    assert len(WORDS) > 10


def test_file_names_that_look_like_commands_are_kept_and_found(besieged: Besieged) -> None:
    stub = filecatalog_pb2_grpc.FileCatalogStub(besieged.channel)
    files = [common_pb2.File(lfn=name, size_bytes=1) for name in NAMES]
    stub.AddFiles(
        filecatalog_pb2.AddFilesRequest(site=SITE, node=NODE, files=files), timeout=TIMEOUT_S
    )
    listing = lookup_pb2.ListNodeFilesRequest(site=SITE, node=NODE)
    listed = stub.ListNodeFiles(listing, timeout=TIMEOUT_S).files
    assert sorted(held.file.lfn for held in listed) == sorted(NAMES)
    refs = [common_pb2.FileRef(lfn=name) for name in NAMES]
    asked = lookup_pb2.CheckFilesRequest(site=SITE, node=NODE, files=refs)
    assert all(p.present for p in stub.CheckFiles(asked, timeout=TIMEOUT_S).presences)
    # A wildcard is a name like others: it finds itself.
    gone = filecatalog_pb2.DeleteFilesRequest(
        site=SITE, node=NODE, files=[common_pb2.FileRef(lfn="%")]
    )
    assert stub.DeleteFiles(gone, timeout=TIMEOUT_S).deleted_count == 1
    besieged.check_unharmed()


def test_a_task_of_such_files_and_words_is_kept_as_it_was_sent(besieged: Besieged) -> None:
    stub = broker_pb2_grpc.BrokerStub(besieged.channel)
    inputs = [
        task_pb2.TaskInput(
            file=common_pb2.File(lfn=name, size_bytes=1), url="file:///data/a%20b'; DROP TABLE jobs"
        )
        for name in NAMES
    ]
    task = task_pb2.TaskSpec(
        user="anna",
        dataset=f"user.anna.{new_request_id()}",
        queue="Q1",
        inputs=inputs,
        files_per_job=len(NAMES),
        command=["echo", *WORDS],
        environment={"WORDS": "$(reboot) `id` ${IFS}"},
    )
    request = broker_pb2.SubmitTaskRequest(request_id=new_request_id(), task=task)
    task_id = stub.SubmitTask(request, timeout=TIMEOUT_S).task.task_id
    jobs = stub.ListJobs(broker_pb2.ListJobsRequest(task_id=task_id), timeout=TIMEOUT_S).jobs
    view = stub.GetJob(broker_pb2.GetJobRequest(job_id=jobs[0].job_id), timeout=TIMEOUT_S)
    assert list(view.command) == ["echo", *WORDS]
    read = [(f.file.lfn, f.url) for f in view.files if f.role == job_pb2.FILE_ROLE_INPUT]
    assert read == [(entry.file.lfn, entry.url) for entry in inputs]
    besieged.check_unharmed()


def test_what_a_pilot_says_of_itself_is_shown_as_it_said_it(besieged: Besieged) -> None:
    dispatcher = dispatcher_pb2_grpc.DispatcherStub(besieged.channel)
    monitor = monitor_pb2_grpc.MonitorStub(besieged.channel)
    said: dict[str, str] = {}
    for words in WORDS:
        request = pilot_pb2.RegisterPilotRequest(
            request_id=new_request_id(), queue="Q1", node=NODE, host=words, batch_id=words
        )
        said[dispatcher.RegisterPilot(request, timeout=TIMEOUT_S).pilot_id] = words
    listing = monitor_pb2.ListPilotsRequest(queue="Q1", page_size=1000)
    shown = monitor.ListPilots(listing, timeout=TIMEOUT_S).pilots
    found = {p.pilot_id: p.host for p in shown if p.pilot_id in said and p.host == p.batch_id}
    assert found == said
    besieged.check_unharmed()
