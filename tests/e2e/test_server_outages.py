"""A database that goes away later is said to be away, and used again when it is back."""

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import psycopg
import pytest

from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.rpc import reason_of, trailers_of
from tests.fixtures.server import StartServer, run_server_command

TIMEOUT_S = 30.0


def test_a_database_that_hangs_does_not_keep_a_server_from_ending(
    start_server: StartServer, migrated_postgres_url: str
) -> None:
    server = start_server(database=migrated_postgres_url, grace_seconds="0.5")
    request = queue_request("q")
    with (
        psycopg.connect(migrated_postgres_url.replace("+psycopg", "")) as locker,
        server.channel() as channel,
        ThreadPoolExecutor() as pool,
    ):
        locker.execute("LOCK TABLE queues IN ACCESS EXCLUSIVE MODE")
        stub = queueconfig_pb2_grpc.QueueConfigStub(channel)
        hanging = pool.submit(stub.ApplyConfig, request, timeout=TIMEOUT_S)
        # The lock is waited for, or the server would end in peace.
        while locker.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone() is None:
            time.sleep(0.01)
        assert server.terminate() == 1
        assert isinstance(hanging.exception(), grpc.RpcError)
    assert any("hangs" in str(event["event"]) for event in server.log_events())


def test_an_outage_of_the_database_is_told_and_survived(
    start_server: StartServer, own_postgres_server: PostgresServer
) -> None:
    database = own_postgres_server.create_database()
    assert run_server_command("migrate", f"--database={database}").returncode == 0
    server = start_server(database=database)
    request = queue_request("q")
    with server.channel() as channel:
        stub = queueconfig_pb2_grpc.QueueConfigStub(channel)
        stub.ApplyConfig(request, timeout=TIMEOUT_S)

        own_postgres_server.kill()
        with pytest.raises(grpc.RpcError) as refused:
            stub.ApplyConfig(request, timeout=TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(refused.value) == "DATABASE_UNAVAILABLE"
        assert int(trailers_of(refused.value)["pandawn-retry-after-ms"]) > 0

        own_postgres_server.start()
        answer = None
        while answer is None:
            try:
                answer = stub.ApplyConfig(request, timeout=TIMEOUT_S)
            except grpc.RpcError as error:
                # Connections of before the outage fail once each.
                assert reason_of(error) == "DATABASE_UNAVAILABLE"  # noqa: PT017
                time.sleep(0.05)
        assert not answer.diffs, "what was acknowledged before the crash is still there"
    said = [event for event in server.log_events() if event.get("reason") == "DATABASE_UNAVAILABLE"]
    assert said, "the operator reads of it too"
    assert not [event for event in server.log_events() if "incident" in event]
    assert server.terminate() == 0
