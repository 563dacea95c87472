"""Whoever is let in as somebody else: no method changes what is Bob's, or tells what only Bob may know.

Bob has a task at T3, with a job that runs on a node of T3. Each attacker calls each method with Bob's
identifiers; then every row of the database that was there is as it was, but for times of contact.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import grpc
import jwt
import pytest
import sqlalchemy
from google.protobuf.duration_pb2 import Duration

from pandawn.broker.v1 import broker_pb2, broker_pb2_grpc, task_pb2
from pandawn.common.v1 import common_pb2
from pandawn.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc, pilot_pb2, report_pb2
from pandawn.filecatalog.v1 import filecatalog_pb2, filecatalog_pb2_grpc, lookup_pb2
from pandawn.queueconfig.v1 import queueconfig_pb2_grpc
from tests.fixtures.besieged import TIMEOUT_S, Besieged, Metadata, opened_for_attack
from tests.fixtures.certificates import Authority
from tests.fixtures.config import queue_request
from tests.fixtures.messages import Method, methods, sound
from tests.fixtures.secure import RULES, SecureSite
from tests.fixtures.server import running_servers
from tests.fixtures.tokens import TokenIssuer

METHODS = methods()
DENIED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
SECRET = "b0b5-s3cr3t"
BOBS = NODE, SITE, QUEUE = "wn01.example.org", "T3", "Q1"
ADMINISTRATORS = """
[[admit]]
name = "administrators of FAR"
method = "token"
subject = "rosa"
roles = ["site-admin", "user"]
sites = ["FAR"]
user_claim = "preferred_username"
"""
# What changes by itself, or because an attack was seen.
# Leases are prolonged by the server itself where it could not hear pilots for a while, as on a busy machine.
_LIVELY = frozenset({"contact_time", "update_time", "expire_time"})
_OWN = frozenset({"events", "audit", "claims", "nodes", "sessions"})


@dataclass(frozen=True)
class Scene:
    """The server as its operator sees it, as the network does, and what attackers have or know."""

    local: Besieged
    network: Besieged
    site: SecureSite
    known: Mapping[str, Any]
    lease: str
    far_pilot: str
    ended_pilot: str

    @cached_property
    def tables(self) -> list[sqlalchemy.Table]:
        """All that there are."""
        found = sqlalchemy.MetaData()
        found.reflect(self.local.engine)
        return list(found.tables.values())

    def rows(self, *left_out: str) -> set[tuple[str, str]]:
        """All rows of all tables that are about somebody, without what changes by itself and the columns named."""
        found: set[tuple[str, str]] = set()
        with self.local.engine.connect() as connection:
            for table in self.tables:
                if table.name in _OWN:
                    continue
                for row in connection.execute(sqlalchemy.select(table)).mappings():
                    kept = {k: v for k, v in row.items() if k not in {*_LIVELY, *left_out}}
                    found.add((table.name, repr(kept)))
        return found

    def inventory(self) -> list[str]:
        """What the catalog says of Bob's node."""
        stub = filecatalog_pb2_grpc.FileCatalogStub(self.local.channel)
        request = lookup_pb2.ListNodeFilesRequest(site=SITE, node=NODE)
        return [held.file.lfn for held in stub.ListNodeFiles(request, timeout=TIMEOUT_S).files]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("site")
    authority, issuer = Authority(), TokenIssuer()
    authority.host("localhost", "127.0.0.1").write(directory, "server")
    authority.write(directory / "ca.pem")
    issuer.write_jwks(directory / "jwks.json")
    begin, end = RULES.split("[[admit]]", 1)
    (directory / "admission.toml").write_text(f"{begin}{ADMINISTRATORS}\n[[admit]]{end}")
    with ExitStack() as stack:
        site = SecureSite(directory, authority, issuer, stack.enter_context(running_servers()))
        target = site.start("auth=token&tls=on")
        local = stack.enter_context(opened_for_attack(site.servers[0]))
        channel = stack.enter_context(site.channel(target))
        yield furnished(local, replace(local, channel=channel), site)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def session(token: str) -> Metadata:
    return (("pandawn-session", token),)


def furnished(local: Besieged, network: Besieged, site: SecureSite) -> Scene:
    """Bob's task and its pilot, and a pilot of another site."""
    operator = queueconfig_pb2_grpc.QueueConfigStub(local.channel)
    other = queue_request("FARQ", site="FAR", storage_root="file:///far")
    operator.ApplyConfig(other, timeout=TIMEOUT_S)
    # Longer than all that strangers try: nothing is to change by itself meanwhile.
    patient = queue_request(QUEUE, lease_duration=Duration(seconds=2 * 3600))
    operator.ApplyConfig(patient, timeout=TIMEOUT_S)
    bob = bearer(site.token("bob", "bob"))
    broker = broker_pb2_grpc.BrokerStub(network.channel)
    archive = bytes.fromhex("1f8b08000000000000ff03000000000000000000")
    upload = broker_pb2.UploadSandboxRequest(chunk=archive)
    sandbox = broker.UploadSandbox(iter([upload]), metadata=bob, timeout=TIMEOUT_S).sandbox_id
    task = task_pb2.TaskSpec(
        user="bob", dataset=f"user.bob.{SECRET}", queue=QUEUE, job_count=2, command=["echo", SECRET],
        environment={"KEY": SECRET}, sandbox_id=sandbox,
    )  # fmt: skip
    submission = broker_pb2.SubmitTaskRequest(request_id="bobs-request", task=task)
    task_id = broker.SubmitTask(submission, metadata=bob, timeout=TIMEOUT_S).task.task_id
    near = registered(network, site, QUEUE, NODE, "near")
    far = registered(network, site, "FARQ", "wn99.example.org", "far")
    ended = registered(network, site, QUEUE, NODE, "ended")
    dispatcher = dispatcher_pb2_grpc.DispatcherStub(network.channel)
    leave = pilot_pb2.DeregisterPilotRequest(pilot_id=ended.pilot_id, reason="done")
    dispatcher.DeregisterPilot(leave, metadata=session(ended.session_token), timeout=TIMEOUT_S)
    acquire = dispatcher_pb2.AcquireJobsRequest(
        pilot_id=near.pilot_id, request_id="bobs-acquire", max_jobs=1
    )
    shown = session(near.session_token)
    (lease,) = dispatcher.AcquireJobs(acquire, metadata=shown, timeout=TIMEOUT_S).leases
    renewal = dispatcher_pb2.LeaseRenewal(
        lease=report_pb2.LeaseRef(
            job_id=lease.job.job_id, attempt=lease.attempt, lease_token=lease.lease_token
        ),
        phase=common_pb2.PHASE_STAGE_IN,
    )
    acknowledge = dispatcher_pb2.RenewLeasesRequest(pilot_id=near.pilot_id, renewals=[renewal])
    dispatcher.RenewLeases(acknowledge, metadata=shown, timeout=TIMEOUT_S)
    catalog = filecatalog_pb2_grpc.FileCatalogStub(network.channel)
    files = [common_pb2.File(lfn="held.root", size_bytes=1)]
    add = filecatalog_pb2.AddFilesRequest(site=SITE, node=NODE, files=files)
    catalog.AddFiles(add, metadata=shown, timeout=TIMEOUT_S)
    known = {
        "task_id": task_id,
        "job_id": lease.job.job_id,
        "attempt": lease.attempt,
        "pilot_id": near.pilot_id,
        "lease_token": lease.lease_token,
        "sandbox_id": sandbox,
        "user": "bob",
        "name": QUEUE,
    }
    return Scene(
        local, network, site, known, lease.lease_token, far.session_token, ended.session_token
    )


def registered(
    network: Besieged, site: SecureSite, queue: str, node: str, request_id: str
) -> pilot_pb2.RegisterPilotResponse:
    request = pilot_pb2.RegisterPilotRequest(request_id=request_id, queue=queue, node=node)
    stub = dispatcher_pb2_grpc.DispatcherStub(network.channel)
    robot = bearer(site.issuer.token("robot"))
    return stub.RegisterPilot(request, metadata=robot, timeout=TIMEOUT_S)


def forged(scene: Scene) -> Metadata:
    """A token that says that it needs no signature."""
    claims = jwt.decode(scene.site.token("bob", "bob"), options={"verify_signature": False})
    return bearer(jwt.encode(claims, "", algorithm="none"))


def confused(scene: Scene) -> Metadata:
    """A token signed with the issuer's public key as if that were a shared secret."""
    claims = jwt.decode(scene.site.token("bob", "bob"), options={"verify_signature": False})

    def encoded(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    head = encoded(json.dumps({"alg": "HS256", "kid": "key-1"}).encode())
    signed = head + b"." + encoded(json.dumps(claims).encode())
    seal = hmac.digest(scene.site.issuer.public_pem, signed, hashlib.sha256)
    return bearer((signed + b"." + encoded(seal)).decode())


def bobs(scene: Scene, **changes: Any) -> Metadata:
    claims = {"preferred_username": "bob"}
    return bearer(scene.site.issuer.token("bob", claims=claims, **changes))


HOUR = timedelta(hours=1)
NOBODIES: dict[str, Callable[[Scene], Metadata]] = {
    "nothing": lambda _: (),
    "alg none": forged,
    "alg confusion": confused,
    "expired": lambda s: bobs(s, lifetime=-HOUR),
    "not yet valid": lambda s: bobs(s, begin=datetime.now(UTC) + HOUR),
    "wrong audience": lambda s: bobs(s, audience="https://elsewhere.example.org"),
    "wrong issuer": lambda _: bearer(TokenIssuer("https://evil.example.org/").token("bob")),
    "key of another": lambda _: bearer(TokenIssuer().token("bob")),
    "tampered session": lambda s: session(s.far_pilot[:-3] + "AAA"),
    "session of another system": lambda _: session("pandawn1.1.W10.AAAA"),
    "session as bearer": lambda s: bearer(s.far_pilot),
    "basic": lambda _: (("authorization", "Basic Ym9iOmJvYg=="),),
    "lease as session": lambda s: session(s.lease),
}
STRANGERS: dict[str, Callable[[Scene], Metadata]] = {
    "another user": lambda s: bearer(s.site.token("mallory", "mallory")),
    "administrator of another site": lambda s: bearer(s.site.token("rosa", "rosa")),
    "pilot of another site": lambda s: session(s.far_pilot),
    "session of an ended pilot": lambda s: session(s.ended_pilot),
    "robot without a session": lambda s: bearer(s.site.issuer.token("robot")),
    "reader": lambda s: bearer(s.site.token("mallory", "mallory", scope="compute.read")),
}
# A stranger may do these with names that are not taken, and does nothing to Bob by them.
OWN_BUSINESS = frozenset(
    {"SubmitTask", "SubmitLargeTask", "UploadSandbox", "RegisterPilot", "OpenSession"}
)


def request_for(scene: Scene, method: Method, request_id: str) -> Any:
    known = {**scene.known, "request_id": request_id}
    return sound(method.descriptor.input_type, known)


def request_ids(method: Method) -> tuple[str, ...]:
    """Also those of calls that were made before, where there are any: a replay gets no other answer."""
    if "request_id" not in method.descriptor.input_type.fields_by_name:
        return ("",)
    return ("strangers-request", "bobs-request", "bobs-acquire", "near")


@pytest.mark.parametrize("nobody", NOBODIES)
def test_who_shows_nothing_good_is_refused_by_every_method(scene: Scene, nobody: str) -> None:
    before = scene.rows()
    for method in METHODS:
        request = request_for(scene, method, "bobs-request")
        answer = scene.network.call(method, request, shown=NOBODIES[nobody](scene))
        assert answer.code is grpc.StatusCode.UNAUTHENTICATED, (method.path, answer)
        assert answer.reason, method.path
        assert SECRET not in answer.text
    assert scene.rows() == before


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_stranger_changes_or_learns_what_is_bobs(scene: Scene, stranger: str) -> None:
    # Who registered the pilot may repeat that, and shows a newer token then.
    left_out = ("credential", "node_key") if stranger == "robot without a session" else ()
    before, inventory = scene.rows(*left_out), scene.inventory()
    for method in METHODS:
        for request_id in request_ids(method):
            request = request_for(scene, method, request_id)
            answer = scene.network.call(method, request, shown=STRANGERS[stranger](scene))
            assert SECRET not in f"{answer.text} {answer.response}", (method.path, answer)
            if method.descriptor.name == "RenewLeases":
                # The rows would not tell, for when a lease ends is left out of them.
                assert answer.code is not grpc.StatusCode.OK, answer
        if method.descriptor.name not in OWN_BUSINESS:
            lost = before - scene.rows(*left_out)
            assert not lost, (method.path, lost)
    assert before <= scene.rows(*left_out)
    assert scene.inventory() == inventory
    scene.local.check_unharmed()


def test_bob_himself_and_the_operator_are_let_in_by_the_same_requests(scene: Scene) -> None:
    by_name = {method.descriptor.name: method for method in METHODS}
    shown = bearer(scene.site.token("bob", "bob"))
    for name in ("GetTask", "GetJob", "ListJobs", "ExplainJob"):
        request = request_for(scene, by_name[name], "again")
        if name == "ListJobs":
            request.states[:] = []
            request.node = request.user = ""
        answer = scene.network.call(by_name[name], request, shown=shown)
        assert answer.code is grpc.StatusCode.OK, answer
    task = scene.network.call(
        by_name["GetTask"], request_for(scene, by_name["GetTask"], ""), shown=shown
    )
    assert SECRET in str(task.response)


def test_a_registration_cannot_be_replayed_by_or_for_another_node(scene: Scene) -> None:
    stub = dispatcher_pb2_grpc.DispatcherStub(scene.network.channel)
    robot = bearer(scene.site.issuer.token("robot"))
    for queue, node in ((QUEUE, "wn02.example.org"), ("FARQ", NODE)):
        request = pilot_pb2.RegisterPilotRequest(request_id="near", queue=queue, node=node)
        with pytest.raises(grpc.RpcError) as caught:
            stub.RegisterPilot(request, metadata=robot, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_page_token_of_bobs_is_of_no_use_to_another(scene: Scene) -> None:
    stub = broker_pb2_grpc.BrokerStub(scene.network.channel)
    first = broker_pb2.ListJobsRequest(page_size=1)
    page = stub.ListJobs(first, metadata=bobs(scene), timeout=TIMEOUT_S)
    assert page.next_page_token
    mallory = bearer(scene.site.token("mallory", "mallory"))
    rest = broker_pb2.ListJobsRequest(page_size=1, page_token=page.next_page_token)
    with suppress(grpc.RpcError):
        assert not stub.ListJobs(rest, metadata=mallory, timeout=TIMEOUT_S).jobs
