"""The grid-free way in, with real machines: namespaces, `/etc/hosts`, DNS that lies, DNS that is down."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.monitor.v1 import monitor_pb2, monitor_pb2_grpc
from pandawn.queueconfig.v1 import parameters_pb2, queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.netns import SERVER_ADDRESS, Namespace, Network
from tests.fixtures.pilots import PROGRAM, StartPilot
from tests.fixtures.processes import ServerProcess
from tests.fixtures.server import PROGRAM as SERVER_PROGRAM

QUEUE, PORT = "ANALY_T3", 25443
TIMEOUT_S = 30.0

# What a node says: it registers, and tells the reason if it is refused.
REGISTER = """
import sys, grpc, secrets
from pandawn.dispatcher.v1 import dispatcher_pb2_grpc, pilot_pb2
address, queue, node = sys.argv[1:4]
metadata = [tuple(word.split("=")) for word in sys.argv[4:]]
request = pilot_pb2.RegisterPilotRequest(
    request_id=secrets.token_hex(8), queue=queue, node=node, transports=["file"])
with grpc.insecure_channel(address) as channel:
    try:
        stub = dispatcher_pb2_grpc.DispatcherStub(channel)
        answer = stub.RegisterPilot(request, metadata=metadata, timeout=30)
        print("admitted", answer.session_token)
    except grpc.RpcError as error:
        trailers = {entry.key: entry.value for entry in error.trailing_metadata()}
        print(trailers.get("pandawn-reason", error.code()), error.details())
"""


@dataclass
class Tier3:
    """A server in a namespace; the test is its operator through a socket file."""

    address: str
    channel: grpc.Channel
    storage: Path
    queue: str = QUEUE

    @property
    def server(self) -> Tier3:
        return self

    def told(self) -> list[str]:
        """What the events say of nodes that were refused."""
        stream = monitor_pb2_grpc.MonitorStub(self.channel).StreamEvents(
            monitor_pb2.StreamEventsRequest(), timeout=TIMEOUT_S
        )
        return [e.text for message in stream for e in message.events if e.kind == "PILOT_REFUSED"]


@contextmanager
def serving(network: Network, *options: str, entry: str = "?auth=host") -> Iterator[Tier3]:
    directory = Path(tempfile.mkdtemp(prefix="pandawn-t3-"))
    directory.chmod(0o711)
    socket_file, storage = directory / "s", directory / "storage"
    storage.mkdir()
    address = f"{SERVER_ADDRESS}:{PORT}"
    channel = grpc.insecure_channel(f"unix:{socket_file}")
    command: list[str | Path] = [
        *network.server.prefix,
        SERVER_PROGRAM,
        "serve",
        f"--data-dir={directory}",
        f"--listen=unix:{socket_file}",
        f"--listen={address}{entry}",
        "--log-level=debug",
        *options,
    ]
    server = ServerProcess(
        command, log=directory / "server.log", is_ready=lambda: _answers(channel)
    )
    server.start()
    request = queue_request(
        QUEUE,
        site="T3",
        storage_root=f"file://{storage}",
        pilot_methods=parameters_pb2.StringList(values=["host"]),
        pilot_networks=parameters_pb2.StringList(values=["10.77.0.0/24"]),
        pilot_host_pattern=r"wn\d+\.t3\.test",
    )
    queueconfig_pb2_grpc.QueueConfigStub(channel).ApplyConfig(request, timeout=TIMEOUT_S)
    try:
        yield Tier3(address, channel, storage)
    finally:
        channel.close()
        server.kill()
        shutil.rmtree(directory)


def _answers(channel: grpc.Channel) -> bool:
    try:
        grpc.channel_ready_future(channel).result(timeout=1)
    except grpc.FutureTimeoutError:
        return False
    return True


def register(tier3: Tier3, node: Namespace, claimed: str, *metadata: str) -> str:
    """The reason, or `admitted`, and what is said besides."""
    done = node.run(sys.executable, "-c", REGISTER, tier3.address, QUEUE, claimed, *metadata)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nodes_in_etc_hosts_bring_pilots_by_their_own_names_only(network: Network) -> None:
    network.resolve_by(hosts="10.77.0.2 wn2.t3.test wn2\n10.77.0.3 gw.t3.test\n")
    worker, gateway = network.node("10.77.0.2"), network.node("10.77.0.3")
    outside = network.node("10.78.0.2")
    with serving(network) as tier3:
        assert register(tier3, worker, "wn2.t3.test").startswith("admitted pandawn1.")
        assert register(tier3, worker, "WN2.T3.test").startswith("admitted")
        for node, claimed, found in (
            (worker, "wn3.t3.test", "10.77.0.2 is wn2.t3.test"),
            (worker, "wn2.t3.test.", "10.77.0.2 is wn2.t3.test"),
            # It has the name, and the pattern is for whole names.
            (worker, "wn2", "10.77.0.2 is wn2.t3.test"),
            (gateway, "wn2.t3.test", "which does not match the queue's pattern"),
            (outside, "wn2.t3.test", "10.78.0.2 is in none of the queue's networks"),
        ):
            # Nobody was told to believe the header.
            said = register(tier3, node, claimed, "x-forwarded-for=10.77.0.2")
            assert said.startswith("HOST_NOT_ADMITTED")
            assert f"claims to be {claimed}" in said
            assert found in said
        told = tier3.told()
    assert len(told) == 5
    assert any("claims to be wn3.t3.test" in t and "is wn2.t3.test" in t for t in told)


def test_a_reverse_zone_that_lies_lets_nobody_in(network: Network) -> None:
    zones = {
        "ptr": {
            "10.77.0.2": ["WN2.T3.test"],
            # Whoever owns this address writes its reverse zone.
            "10.77.0.66": ["wn2.t3.test"],
            "10.77.0.67": ["wn67.t3.test"],
            # An address for a name: asked for its addresses the system would give it back.
            "10.77.0.68": ["10.77.0.68"],
        },
        "address": {
            "wn2.t3.test": ["10.77.0.2"],
            "wn67.t3.test": ["10.77.0.9", "10.77.0.67"],
        },
    }
    network.resolve_by(zones=zones)
    honest, liar, several, number = (network.node(address) for address in zones["ptr"])
    with serving(network) as tier3:
        assert register(tier3, honest, "wn2.t3.test").startswith("admitted")
        assert register(tier3, several, "wn67.t3.test").startswith("admitted")
        for claimed in ("wn2.t3.test", "wn66.t3.test"):
            said = register(tier3, liar, claimed)
            assert said.startswith("HOST_NOT_ADMITTED")
            assert "10.77.0.66 has the name wn2.t3.test, which does not resolve back to it" in said
        for claimed in ("10.77.0.68", "wn68.t3.test"):
            said = register(tier3, number, claimed)
            assert said.startswith("HOST_NOT_ADMITTED")
            assert "10.77.0.68 has no name" in said


def test_while_dns_is_down_nobody_comes_in_and_all_may_try_again(network: Network) -> None:
    network.resolve_by()
    node = network.node("10.77.0.2")
    with serving(network) as tier3:
        said = register(tier3, node, "wn2.t3.test")
        assert said.startswith("NAME_SERVICE_UNAVAILABLE")


def test_behind_a_declared_proxy_the_client_is_whom_the_proxy_saw(network: Network) -> None:
    network.resolve_by(hosts="10.77.0.2 wn2.t3.test\n10.77.0.9 wn9.t3.test\n")
    worker, proxy = network.node("10.77.0.2"), network.node("10.77.0.9")
    trusting = ("--trusted-proxies=10.77.0.9/32",)
    with serving(network, *trusting, entry="?auth=host&forwarded=on") as tier3:
        seen = "x-forwarded-for=10.9.9.9,10.77.0.2"
        assert register(tier3, proxy, "wn2.t3.test", seen).startswith("admitted")
        assert register(tier3, proxy, "wn9.t3.test", seen).startswith("HOST_NOT_ADMITTED")
        assert register(tier3, proxy, "wn9.t3.test").startswith("ADDRESS_UNKNOWN")
        # A node that is no proxy is not believed.
        lie = "x-forwarded-for=10.77.0.9"
        assert register(tier3, worker, "wn9.t3.test", lie).startswith("HOST_NOT_ADMITTED")
        assert register(tier3, worker, "wn2.t3.test", lie).startswith("admitted")


def test_a_pilot_of_such_a_node_runs_jobs(network: Network, start_pilot: StartPilot) -> None:
    network.resolve_by(hosts="10.77.0.2 wn2.t3.test\n")
    node = network.node("10.77.0.2")
    with serving(network) as tier3:
        spec = task_pb2.TaskSpec(
            user="anna", dataset="user.anna.t3", queue=QUEUE, command=["true"], job_count=2
        )
        broker = broker_pb2_grpc.BrokerStub(tier3.channel)
        task = broker.SubmitTask(
            broker_pb2.SubmitTaskRequest(request_id="r", task=spec), timeout=TIMEOUT_S
        ).task
        pilot = start_pilot(
            tier3,
            command=(*node.prefix, PROGRAM),
            no_tls=True,
            node="wn2.t3.test",
            idle_exit=2,
        )
        assert pilot.wait() == 0, pilot.log
        request = broker_pb2.GetTaskRequest(task_id=task.task_id)
        done = broker.GetTask(request, timeout=TIMEOUT_S).task
        assert done.state == task_pb2.TASK_STATE_FINISHED, pilot.log


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces reach each other and nothing else."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
