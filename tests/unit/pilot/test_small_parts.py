"""Small parts of the pilot: reasons, back-off, stops, leases, stored reports, log lines, options."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import subprocess
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2 as dispatcher
from pandawn.dispatcher.v1 import pilot_pb2, report_pb2
from pandawn_client.calls import call, persist
from pandawn_client.channel import MAX_MESSAGE_BYTES
from pandawn_client.connection import Connection
from pandawn_client.policy import Backoff
from pandawn_client.refusals import CallError
from pandawn_pilot import errors
from pandawn_pilot.cli import main, parse_size
from pandawn_pilot.errors import Fault, JobFailedError
from pandawn_pilot.job import work_dir
from pandawn_pilot.job.live_job import LiveJob
from pandawn_pilot.job.report import error_message
from pandawn_pilot.job.runner import prepare
from pandawn_pilot.job.work_dir import JobDir, WorkDir
from pandawn_pilot.logs import JobLog, NonblockingHandler, make_log
from pandawn_pilot.server.reporting import Reporting, failed_instead
from pandawn_pilot.server.stored_reports import store_report, stored_reports
from pandawn_pilot.stop import Stop, StoppedError, StopReason
from tests.unit.pilot.factories import make_test_log


def all_faults() -> list[Fault]:
    return [value for value in vars(errors).values() if isinstance(value, Fault)]


def test_each_reason_has_its_own_name_and_a_number() -> None:
    faults = all_faults()
    assert len({fault.reason for fault in faults}) == len(faults) > 20
    for fault in faults:
        assert getattr(errors, fault.reason) is fault
        assert 1008 <= fault.code <= 1400


def test_the_text_of_an_error_fits_the_contract() -> None:
    message = error_message(JobFailedError(errors.PAYLOAD_FAILED, "é\n\x00" * 2000))
    assert len(message.text.encode()) <= 2000
    assert message.text.isprintable()
    assert message.component == common_pb2.ERROR_COMPONENT_PAYLOAD


def unavailable(retry_after: float | None = None) -> CallError:
    return CallError(grpc.StatusCode.UNAVAILABLE, "X", "x", transient=True, retry_after=retry_after)


def test_pauses_grow_to_a_cap_and_never_undercut_the_servers_wish() -> None:
    bounds = []
    for _ in range(50):
        backoff = Backoff(3.0)
        bounds.append([backoff.next_pause() for _ in range(10)])
    largest = [max(column) for column in zip(*bounds, strict=True)]
    assert largest[0] <= 0.2
    assert largest[2] <= 0.8
    assert 1.0 < largest[-1] <= 3.0
    assert Backoff().next_pause(5.0) >= 5.0


def test_what_fails_for_a_time_is_repeated_and_what_fails_for_good_is_not() -> None:
    tries: list[int] = []

    def succeed_at_third() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise unavailable()
        return "done"

    assert persist(succeed_at_third, "it", make_test_log(), stop=Stop()) == "done"

    def refuse() -> str:
        tries.append(1)
        raise CallError(grpc.StatusCode.NOT_FOUND, "GONE", "gone", transient=False)

    tries.clear()
    with pytest.raises(CallError):
        persist(refuse, "it", make_test_log(), stop=Stop())
    assert len(tries) == 1


def test_repeating_ends_when_told_to() -> None:
    stop = Stop()
    threading.Timer(0.1, stop.request, [StopReason.SHUTDOWN]).start()

    def fail() -> None:
        raise unavailable()

    with pytest.raises(StoppedError):
        persist(fail, "it", make_test_log(), stop=stop)


def test_a_lease_that_is_over_beats_every_other_reason_to_stop() -> None:
    stop = Stop()
    seen = []
    for reason in (StopReason.CANCELLED, StopReason.SHUTDOWN, StopReason.STALE):
        stop.request(reason)
        seen.append(stop.reason)
    assert seen == [StopReason.CANCELLED, StopReason.CANCELLED, StopReason.STALE]


def make_report() -> report_pb2.JobReport:
    return report_pb2.JobReport(
        lease=report_pb2.LeaseRef(job_id=17, attempt=2, lease_token="t"),
        outcome=report_pb2.OUTCOME_FINISHED,
        exit_code=0,
        outputs=[report_pb2.StoredFile(url="file:///x")],
        input_bytes=2**40,
    )


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    store_report(tmp_path, "pilot-1", make_report())
    (stored,) = stored_reports(tmp_path)
    assert (stored.pilot_id, stored.report) == ("pilot-1", make_report())
    assert stored.report.HasField("exit_code")


def test_a_report_is_sent_although_the_disk_cannot_keep_it(tmp_path: Path) -> None:
    nowhere = tmp_path / "missing" / "reports"
    connection = Connection("127.0.0.1:1")
    stop = Stop()
    stop.request(StopReason.SHUTDOWN)
    # It is tried, or it would not be stopped.
    with pytest.raises(StoppedError):
        Reporting(connection, nowhere, make_test_log()).report(
            "pilot-1", make_report(), stop=stop, log=make_test_log()
        )
    connection.close()


def test_what_a_payload_has_locked_is_removed(tmp_path: Path) -> None:
    directory = JobDir(tmp_path / "job")
    directory.create()
    locked = directory.work / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").write_text("")
    locked.chmod(0)
    locked.parent.chmod(0)
    (directory.work / "link").symlink_to(tmp_path)
    directory.remove()
    assert not directory.root.exists()
    assert tmp_path.exists()


@pytest.mark.parametrize("damage", ["", "{}", '{"version": 2}', "[1]"])
def test_a_report_that_cannot_be_read_stands_in_nobodys_way(tmp_path: Path, damage: str) -> None:
    (tmp_path / "1.1.json").write_text(damage)
    store_report(tmp_path, "pilot-1", make_report())
    assert len(stored_reports(tmp_path)) == 1
    assert (tmp_path / "1.1.json").exists()


def test_a_finished_job_that_the_server_refuses_becomes_a_failed_one() -> None:
    failed = failed_instead(make_report(), "ds.out is missing")
    assert failed.outcome == report_pb2.OUTCOME_FAILED
    assert failed.error.reason == "STAGE_OUT_FAILED"
    assert not failed.outputs
    assert failed.lease.lease_token == "t"


def answer_as_overloaded(
    request: pilot_pb2.RegisterPilotRequest, context: grpc.ServicerContext
) -> pilot_pb2.RegisterPilotResponse:
    """Answers as the server does when it is overloaded, and as gRPC itself does."""
    if request.queue == "plain":
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")
    context.set_trailing_metadata(
        (("pandawn-reason", "OVERLOADED"), ("pandawn-retry-after-ms", "1500"))
    )
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
    raise AssertionError("abort raises")


def test_reason_and_time_are_read_from_plain_trailers() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(
        answer_as_overloaded,
        pilot_pb2.RegisterPilotRequest.FromString,
        pilot_pb2.RegisterPilotResponse.SerializeToString,
    )
    service = "pandawn.dispatcher.v1.Dispatcher"
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"RegisterPilot": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    connection = Connection(f"127.0.0.1:{port}")
    try:
        with pytest.raises(CallError) as told:
            call(connection.dispatcher.RegisterPilot, pilot_pb2.RegisterPilotRequest())
        assert (told.value.reason, told.value.retry_after) == ("OVERLOADED", 1.5)
        assert told.value.transient
        plain = pilot_pb2.RegisterPilotRequest(queue="plain")
        with pytest.raises(CallError) as untold:
            call(connection.dispatcher.RegisterPilot, plain)
        assert (untold.value.reason, untold.value.transient) == ("RESOURCE_EXHAUSTED", False)
    finally:
        connection.close()
        server.stop(None).wait()


def test_a_request_above_the_message_limit_is_refused_before_it_is_sent() -> None:
    connection = Connection("127.0.0.1:1")
    request = pilot_pb2.RegisterPilotRequest(host="x" * (MAX_MESSAGE_BYTES + 1))
    with pytest.raises(CallError) as failure:
        call(connection.dispatcher.RegisterPilot, request)
    connection.close()
    assert failure.value.reason == "MESSAGE_TOO_LARGE"
    assert not failure.value.transient


@pytest.mark.parametrize("as_json", [True, False])
def test_a_log_line_is_one_line_and_says_what_it_is_about(tmp_path: Path, *, as_json: bool) -> None:
    stream = io.StringIO()
    log = make_log(as_json=as_json, node="wn01", stream=stream, level=logging.INFO)
    log.set(pilot="p1")
    job_log = JobLog(log, tmp_path / "pilot.log", job="17", attempt="2")
    job_log.info("two\nlines of %s", "text")
    job_log.close()
    log.info("plain")
    first, second = stream.getvalue().splitlines()
    if as_json:
        document = json.loads(first)
        assert document["event"] == "two\nlines of text"
        assert (document["job"], document["pilot"], document["node"]) == ("17", "p1", "wn01")
        assert "job" not in json.loads(second)
    else:
        assert first.endswith(" INFO two\\nlines of text node=wn01 pilot=p1 job=17 attempt=2")
        assert second.endswith(" INFO plain node=wn01 pilot=p1")
    assert (tmp_path / "pilot.log").read_text().endswith(" INFO two\\nlines of text\n")


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_that_a_user_names_acts_on_a_terminal_or_fills_the_log(
    tmp_path: Path, *, as_json: bool
) -> None:
    stream = io.StringIO()
    log = make_log(as_json=as_json, node="wn01", stream=stream, level=logging.INFO)
    job_log = JobLog(log, tmp_path / "pilot.log", job="17", attempt="2")
    job_log.info("begins: %s", "\x1b[2J\x9b1m\u202egnp.exe" + "x" * 1_000_000)
    job_log.close()
    for line in (stream.getvalue(), (tmp_path / "pilot.log").read_text()):
        assert line.rstrip("\n").isprintable()
        assert len(line) < 10_000
    assert "begins: \\x1b[2J\\x9b1m\\u202egnp.exe" in (tmp_path / "pilot.log").read_text()


@pytest.mark.parametrize(
    ("text", "size"),
    [("12", 12), ("5k", 5000), ("1.5 GiB", 3 * 2**29), ("20GB", 20 * 10**9), ("2Ti", 2**41)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "5i", "1e9", "5X", "five"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        parse_size(text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "--server", "s", "--queue", "q", "--work-dir", "w"],
        ["run", "--server=s", "--queue=q", "--work-dir=w", "--no-cache", "--cache-dir=c"],
        ["run", "--server=s", "--queue=q", "--work-dir=w", "--no-cache", "--max-jobs=0"],
        ["run", "--server=s", "--queue=q", "--work-dir=w", "--no-cache", "--idle-exit=soon"],
        ["run", "--server=s", "--queue=q", "--work-dir=w", "--no-cache", "--cache-low-water=2"],
    ],
    ids=["nothing", "bare", "no cache said", "two caches", "no jobs", "no time", "no share"],
)
def test_wrong_usage_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: pandawn-pilot" in capsys.readouterr().err


def test_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])
    assert ended.value.code == 0
    assert "server unreachable" in capsys.readouterr().out


def test_on_a_node_with_another_locale_a_program_takes_file_names_for_utf8(tmp_path: Path) -> None:
    made = subprocess.run(
        ["localedef", "-f", "ISO-8859-1", "-i", "en_US", tmp_path / "en_US.ISO-8859-1"],
        check=False,
        capture_output=True,
    )
    if made.returncode != 0:
        pytest.skip("the sources of locales are not here")
    program = tmp_path / "program"
    program.write_text(
        "import os, sys\nfrom pandawn_pilot.node.utf8 import use_utf8\nuse_utf8()\n"
        "print(sys.getfilesystemencoding(), os.getpid(), ascii(sys.argv[1]))\n"
    )
    with subprocess.Popen(
        [sys.executable, program, "é".encode()],
        env={"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        said, _ = child.communicate()
    assert said == f"utf-8 {child.pid} '\\xe9'\n"


def test_a_jobs_description_has_no_values_of_variables_and_is_the_pilots_alone(
    tmp_path: Path,
) -> None:
    # Many, for it depends on how the map happens to lie.
    secrets = {f"API_KEY_{number}": "s3cr3t" for number in range(200)}
    spec = dispatcher.JobSpec(job_id=17, environment=secrets)
    lease = dispatcher.Lease(job=spec)
    directory = JobDir(tmp_path / "17.1")
    prepare(LiveJob(lease), directory)
    text = directory.spec.read_text()
    assert json.loads(text)["environment"] == dict.fromkeys(secrets, "(not shown)")
    assert lease.job.environment["API_KEY_7"] == "s3cr3t"
    assert directory.spec.stat().st_mode & 0o777 == 0o600
    assert directory.root.stat().st_mode & 0o777 == 0o700


def test_a_log_whose_disk_hangs_holds_up_nobody() -> None:
    reader, writer = os.pipe()
    handler = NonblockingHandler(writer)
    # More than a pipe holds: whoever wrote them would wait for a reader.
    record = logging.LogRecord("x", logging.INFO, "", 0, "x" * 1000, (), None)
    for _ in range(1000):
        handler.emit(record)
    handler.drain(0.1)
    with os.fdopen(reader) as stream:
        assert stream.readline() == "x" * 1000 + "\n"
    handler.drain(30)
    os.close(writer)


def test_on_a_full_disk_the_pilots_new_name_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = WorkDir(tmp_path)
    directory.store_pilot("the-old-one")

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # No room for a file beside it.
    monkeypatch.setattr(work_dir, "replace_text", full)
    directory.store_pilot("the-new-one")
    assert directory.former_pilot() == "the-new-one"
    (tmp_path / "pilot.json").unlink()
    with pytest.raises(OSError, match="No space"):
        directory.store_pilot("a-third-one")
    assert directory.former_pilot() == "", "none at all is better than a wrong one"
