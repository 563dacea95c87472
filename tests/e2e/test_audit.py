"""The audit from the command line, and through the end of the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.pilots import wait_until
from tests.fixtures.server import PandawnServer

QUEUE = "ANALY_T3"


@pytest.fixture
def pandawn(server: PandawnServer, tmp_path: Path, run_cli: RunCli) -> Pandawn:
    cli = Pandawn(server.address, tmp_path, run_cli)
    cli.ok("queues", "apply", QUEUE, "--storage-root", str(tmp_path / "storage"))
    return cli


def lines(pandawn: Pandawn, *arguments: str) -> list[tuple[str, str, int]]:
    found = json.loads(pandawn.ok("audit", "--json", *arguments))
    return [(line["rpc"], line["code"], line["task_id"]) for line in found]


def test_no_accepted_change_is_lost_when_the_server_is_killed_after_its_answer(
    pandawn: Pandawn, server: PandawnServer
) -> None:
    for number in range(1, 4):
        spec = task_pb2.TaskSpec(
            user="ann", dataset=f"d{number}", queue=QUEUE, job_count=1, command=["true"]
        )
        with server.channel() as channel:
            broker = broker_pb2_grpc.BrokerStub(channel)
            request = broker_pb2.SubmitTaskRequest(request_id=f"r{number}", task=spec)
            broker.SubmitTask(request, timeout=30)
            server.kill9()
        server.start()
        assert lines(pandawn, "--rpc", "SubmitTask", "--task", str(number)) == [
            ("Broker.SubmitTask", "OK", number)
        ]


def test_refusals_are_written_before_the_server_ends(
    pandawn: Pandawn, server: PandawnServer
) -> None:
    assert pandawn.run("kill", "--task", "99").status == 3
    server.restart()
    assert lines(pandawn, "--task", "99") == [("Broker.CancelTask", "NOT_FOUND", 99)]


def test_the_audit_says_who_did_what_from_where(pandawn: Pandawn) -> None:
    pandawn.ok("submit", "--jobs", "1", "--user", "ann", "--queue", QUEUE, "--", "true")
    pandawn.ok("access", "grant", "ben", QUEUE, "--deny")
    table = pandawn.ok("audit", "--since", "1h", "--queue", QUEUE, COLUMNS="200").splitlines()
    assert [line.split()[2:] for line in table[1:]] == [
        *(
            f"local 127.0.0.1 {said} OK".split()
            for said in (
                f"GrantAccess queue {QUEUE}, entry ben",
                f"SubmitTask task 1, queue {QUEUE}, user ann",
                f"ApplyConfig queue {QUEUE}, revision 1",
            )
        )
    ]
    # On a narrow terminal no name is broken, and a refusal, which follows soon, is told by its reason alone.
    pandawn.run("access", "revoke", "nobody", QUEUE)
    about = ("audit", "--rpc", "RevokeAccess")
    wait_until(lambda: "has no entry for user nobody" in pandawn.ok(*about, COLUMNS="200"))
    narrow = pandawn.ok(*about, COLUMNS="80")
    assert "RevokeAccess" in narrow
    assert "has no entry" not in narrow
    assert lines(pandawn, "--user", "ann") == []
    assert lines(pandawn, "--denied") == []
    said = pandawn.run("audit", "--rpc", "Submit")
    assert said.status == 3
    assert "--rpc: is not a method of this server" in said.err
