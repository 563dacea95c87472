"""Sessions over the wire: what a pilot gets at its registration is what all its calls are judged by."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc, session_pb2
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.config import queue_request
from tests.fixtures.rpc import reason_of
from tests.fixtures.server import PandawnServer, StartServer, run_server_command

QUEUE, SITE = "analysis", "T3"
TIMEOUT_S = 30.0
LIFE_S = 6

Metadata = tuple[tuple[str, str | bytes], ...]


def shown(token: str) -> Metadata:
    return (("pandawn-session", token),)


class Site:
    """A server with one queue, and stubs of what nodes call."""

    def __init__(self, server: PandawnServer) -> None:
        self.server = server
        self.channel = server.channel()
        self.dispatcher = dispatcher_pb2_grpc.DispatcherStub(self.channel)
        self.catalog = filecatalog_pb2_grpc.FileCatalogStub(self.channel)
        request = queue_request(QUEUE, site=SITE, storage_root="file:///storage")
        queueconfig_pb2_grpc.QueueConfigStub(self.channel).ApplyConfig(request, timeout=TIMEOUT_S)

    def register(self, node: str = "wn1", request_id: str = "r") -> pilot_pb2.RegisterPilotResponse:
        request = pilot_pb2.RegisterPilotRequest(
            request_id=request_id, queue=QUEUE, node=node, transports=["file"]
        )
        return self.dispatcher.RegisterPilot(request, timeout=TIMEOUT_S)

    def beat(self, pilot_id: str, token: str) -> dispatcher_pb2.RenewLeasesResponse:
        request = dispatcher_pb2.RenewLeasesRequest(pilot_id=pilot_id)
        return self.dispatcher.RenewLeases(request, metadata=shown(token), timeout=TIMEOUT_S)

    def acquire(self, pilot_id: str, token: str) -> dispatcher_pb2.AcquireJobsResponse:
        request = dispatcher_pb2.AcquireJobsRequest(pilot_id=pilot_id, request_id="a", max_jobs=1)
        return self.dispatcher.AcquireJobs(request, metadata=shown(token), timeout=TIMEOUT_S)

    def leave(self, pilot_id: str, token: str) -> None:
        request = pilot_pb2.DeregisterPilotRequest(pilot_id=pilot_id, reason="idle")
        self.dispatcher.DeregisterPilot(request, metadata=shown(token), timeout=TIMEOUT_S)

    def add_file(self, node: str, token: str, site: str = SITE) -> None:
        request = filecatalog_pb2.AddFilesRequest(
            site=site, node=node, files=[common_pb2.File(lfn="f", size_bytes=1)]
        )
        self.catalog.AddFiles(request, metadata=shown(token), timeout=TIMEOUT_S)

    def beat_refused(self, pilot_id: str, token: str) -> str:
        with pytest.raises(grpc.RpcError) as error:
            self.beat(pilot_id, token)
        return reason_of(error.value)


@pytest.fixture
def site(start_server: StartServer) -> Iterator[Site]:
    """A site with a server of its own."""
    site = Site(start_server())
    yield site
    site.channel.close()


def test_a_session_is_renewed_by_heartbeats_and_goes_on_for_as_long_as_they_do(
    start_server: StartServer,
) -> None:
    site = Site(start_server(session_life_seconds=str(LIFE_S)))
    registered = site.register()
    assert registered.session_life.seconds == LIFE_S
    token, renewals = registered.session_token, 0
    end = time.monotonic() + 2 * LIFE_S
    while time.monotonic() < end:
        fresh = site.beat(registered.pilot_id, token).session_token
        if fresh:
            token, renewals = fresh, renewals + 1
        time.sleep(0.2)
    assert renewals >= 2
    assert site.beat_refused(registered.pilot_id, registered.session_token) == "SESSION_EXPIRED"
    again = site.register()
    assert again.pilot_id == registered.pilot_id
    site.acquire(again.pilot_id, again.session_token)
    site.channel.close()


def test_a_server_that_comes_back_knows_the_sessions_of_before(site: Site) -> None:
    registered = site.register()
    site.server.restart()
    site.beat(registered.pilot_id, registered.session_token)


def test_the_key_changes_under_way_and_all_sessions_can_be_ended(site: Site) -> None:
    registered = site.register()
    directory = f"--data-dir={site.server.log_file.parent}"
    rotated = run_server_command("rotate-session-key", directory)
    assert rotated.returncode == 0, rotated.stderr
    assert "session key 2 signs from" in rotated.stdout
    site.server.restart()
    site.beat(registered.pilot_id, registered.session_token)
    ended = run_server_command("end-sessions", directory)
    assert ended.returncode == 0, ended.stderr
    site.server.restart()
    token = registered.session_token
    assert site.beat_refused(registered.pilot_id, token) == "SESSION_INVALID"
    again = site.register()
    assert again.pilot_id == registered.pilot_id
    site.beat(again.pilot_id, again.session_token)


def test_a_pilot_that_took_leave_may_repeat_that_and_do_nothing_else(site: Site) -> None:
    registered = site.register()
    pilot_id, token = registered.pilot_id, registered.session_token
    site.leave(pilot_id, token)
    site.leave(pilot_id, token)
    assert site.beat_refused(pilot_id, token) == "SESSION_ENDED"
    with pytest.raises(grpc.RpcError) as error:
        site.register()
    assert reason_of(error.value) == "PILOT_NOT_FOUND"
    site.register(request_id="another")


def test_no_pilot_speaks_for_another(site: Site) -> None:
    one, other = site.register("wn1", "one"), site.register("wn2", "other")
    token = other.session_token
    assert site.beat_refused(one.pilot_id, token) == "NOT_YOUR_PILOT"
    with pytest.raises(grpc.RpcError) as error:
        site.acquire(one.pilot_id, token)
    assert reason_of(error.value) == "NOT_YOUR_PILOT"
    with pytest.raises(grpc.RpcError) as error:
        site.leave(one.pilot_id, token)
    assert reason_of(error.value) == "NOT_YOUR_PILOT"
    site.beat(one.pilot_id, one.session_token)


def test_a_tool_of_a_node_describes_its_cache_and_no_other(site: Site) -> None:
    request = session_pb2.OpenSessionRequest(queue=QUEUE, node="WN1")
    opened = site.catalog.OpenSession(request, timeout=TIMEOUT_S)
    assert (opened.site, opened.session_life.seconds) == (SITE, 3600)
    site.add_file("wn1", opened.session_token)
    for node, where in (("wn2", SITE), ("wn1", "T2")):
        with pytest.raises(grpc.RpcError) as error:
            site.add_file(node, opened.session_token, where)
        assert reason_of(error.value) == "NOT_YOUR_NODE"
    assert site.beat_refused("any", opened.session_token) == "NOT_YOUR_PILOT"


def test_an_inventory_is_taken_from_its_own_node_only(site: Site) -> None:
    registered = site.register("wn1")
    header = filecatalog_pb2.InventoryHeader(
        site=SITE, node="wn2", state=filecatalog_pb2.CacheState(epoch=1)
    )
    messages = [filecatalog_pb2.ReportInventoryRequest(header=header)]
    metadata = shown(registered.session_token)
    with pytest.raises(grpc.RpcError) as error:
        site.catalog.ReportInventory(iter(messages), metadata=metadata, timeout=TIMEOUT_S)
    assert reason_of(error.value) == "NOT_YOUR_NODE"


def test_the_configuration_says_what_each_address_takes() -> None:
    done = run_server_command("check-config", "--listen=127.0.0.1:0", "--listen=[::1]:0?auth=host")
    assert "at 127.0.0.1:0: callers on this machine are operators; no TLS" in done.stdout
    assert "at [::1]:0: takes host; no TLS" in done.stdout
    refused = run_server_command("serve", "--listen=0.0.0.0:0")
    assert refused.returncode == 2
    assert "everybody who can connect would be the operator" in refused.stderr
