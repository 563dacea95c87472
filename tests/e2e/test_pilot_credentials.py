"""Pilots and hooks that show who they are: tokens, certificates, proxies, and the sessions they get."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fixtures.certificates import Authority
from tests.fixtures.pcache import Pcache
from tests.fixtures.pilots import PilotPlace, PilotProcess, StartPilot, wait_until
from tests.fixtures.ports import LOOPBACK, free_port
from tests.fixtures.secure import SecureSite
from tests.fixtures.server import PandawnServer, StartServer
from tests.fixtures.tier3 import Tier3

HOOK = Path(sys.executable).with_name("pandawn-pcache-hook")
NODE = "wn7.nodes.example.org"
BOTH = "auth=token+x509&tls=on&proxies=accept"

FACTORY = """
[[admit]]
name = "the pilot factory"
method = "x509"
subject = "/DC=org/DC=example/OU=People/CN=Pilot Factory"
roles = ["pilot"]
"""
"""Goes before the rules for people."""


class Site(Tier3):
    """A Tier 3 whose pilots speak to an address with TLS, and whose users sit on the machine."""

    def __init__(self, secure: SecureSite, root: Path, options: str = BOTH, **more: str) -> None:
        self.secure = secure
        rules = secure.admission_file
        rules.write_text(FACTORY + rules.read_text())
        self.target = secure.start(options, **more)
        super().__init__(secure.servers[-1], root)

    def token_file(self, subject: str = "robot", **claims: object) -> Path:
        """A file with a token, for pilots if it is the robot's."""
        token = self.secure.issuer.token(subject, **claims)  # type: ignore[arg-type]
        path = self.secure.directory / f"token-{subject}"
        path.write_text(token + "\n")
        path.chmod(0o600)
        return path


@pytest.fixture
def site(secure_site: SecureSite, tmp_path: Path) -> Iterator[Site]:
    """Sessions of an hour, as by default."""
    made = Site(secure_site, tmp_path / "tier3")
    yield made
    made.close()


@pytest.fixture
def hasty_site(secure_site: SecureSite, tmp_path: Path) -> Iterator[Site]:
    """Sessions of two seconds."""
    made = Site(secure_site, tmp_path / "tier3", session_life_seconds="2")
    yield made
    made.close()


def start(site: Site, start_pilot: StartPilot, **options: object) -> PilotProcess:
    return start_pilot(
        site,
        **{"server": site.target, "ca": site.secure.ca_file, "node": NODE, **options},  # type: ignore[arg-type]
    )


def test_a_pilot_with_a_token_works_and_its_node_tells_what_it_holds(
    site: Site, start_pilot: StartPilot
) -> None:
    inputs = site.make_inputs(1)
    task = site.submit("cat $1 > out", inputs, outputs=["out"])
    pilot = start(site, start_pilot, token_file=site.token_file())
    site.finish(task)
    wait_until(lambda: site.cached(NODE) == [inputs[0].file.lfn])
    assert "eyJ" not in pilot.log
    assert "pandawn1." not in pilot.log


@pytest.mark.parametrize("kind", ["files", "proxy by option", "proxy by variable"])
def test_a_pilot_with_a_certificate_or_its_proxy_works(
    site: Site, start_pilot: StartPilot, authority: Authority, kind: str
) -> None:
    where = site.secure.directory
    shown = authority.host(NODE) if kind == "files" else authority.person("Pilot Factory").proxy()
    options: dict[str, object] = {}
    environment: Mapping[str, str] = {}
    if kind == "files":
        options["cert"], options["key"] = shown.write(where, "wn")
    elif kind == "proxy by option":
        options["cert"] = shown.write_proxy(where / "proxy")
    else:
        environment = {"X509_USER_PROXY": str(shown.write_proxy(where / "proxy"))}
    task = site.submit("env | grep X509; true")
    start(site, start_pilot, environment=environment, **options)
    site.finish(task)


@pytest.mark.parametrize(
    ("case", "status", "said"),
    [
        ("nothing", 3, "CREDENTIALS_REQUIRED"),
        ("a user's token", 3, "ROLE_MISSING"),
        ("an old token", 3, "TOKEN_EXPIRED"),
        ("no token at all", 2, "contains no token"),
        ("a token that all may read", 2, "chmod 600"),
        ("a token in the clear", 2, "would be sent unencrypted"),
        ("another authority", 4, "the server's certificate cannot be verified: self-signed"),
        ("no TLS there", 4, "does not use TLS"),
        ("an old certificate", 4, "the server refuses our certificate"),
    ],
)
def test_who_is_not_let_in_ends_at_once_and_says_why(
    site: Site, start_pilot: StartPilot, tmp_path: Path, case: str, status: int, said: str
) -> None:
    options: dict[str, object] = {"connect_timeout": 2}
    match case:
        case "nothing":
            pass
        case "a user's token":
            options["token_file"] = site.token_file("ann", claims={"preferred_username": "ann"})
        case "an old token":
            options["token_file"] = site.token_file(lifetime=timedelta(seconds=-600))
        case "no token at all":
            options["token_file"] = "/dev/null"
        case "a token that all may read":
            options["token_file"] = site.token_file()
            site.token_file().chmod(0o644)
        case "a token in the clear":
            options.update(token_file=site.token_file(), server="192.0.2.1:25443", no_tls=True)
            options["ca"] = None
        case "another authority":
            options["token_file"] = site.token_file()
            options["ca"] = Authority("Other CA").write(tmp_path / "other.pem")
        case "no TLS there":
            options.update(token_file=site.token_file(), server=site.server.address)
        case "an old certificate":
            old = site.secure.authority.person(
                begin=datetime.now(UTC) - timedelta(days=9),
                end=datetime.now(UTC) - timedelta(days=1),
            )
            options["cert"], options["key"] = old.write(tmp_path, "old")
        case _:
            pytest.fail(case)
    pilot = start(site, start_pilot, **options)
    assert pilot.wait() == status
    assert said in pilot.log
    assert "ssl_transport_security" not in pilot.log, "gRPC's own lines"


def test_a_session_is_renewed_in_time_and_the_pilot_registers_once(
    hasty_site: Site, start_pilot: StartPilot
) -> None:
    pilot = start(hasty_site, start_pilot, token_file=hasty_site.token_file())
    pilot.wait_for_log("sent the inventory")
    # Longer than a session lasts.
    (job,) = hasty_site.finish(hasty_site.submit("sleep 5"))
    assert job.attempt == 1
    assert pilot.log.count("registered for queue") == 1


def test_a_session_that_expired_in_an_outage_is_begun_again_by_the_same_pilot(
    hasty_site: Site, start_pilot: StartPilot
) -> None:
    hasty_site.apply_queue(site=hasty_site.site, lease_duration=Duration(seconds=60))
    task = hasty_site.submit("sleep 2")
    pilot = start(hasty_site, start_pilot, token_file=hasty_site.token_file())
    pilot.wait_for_log("payload starts")
    server = hasty_site.secure.servers[-1]
    server.terminate()
    # The job ends meanwhile, and the session and its renewals with it.
    pilot.wait_for_log("stored file:")
    time.sleep(2)
    server.start()
    (job,) = hasty_site.finish(task)
    assert job.attempt == 1
    assert "the session is over, registering again: SESSION_EXPIRED" in pilot.log
    names = {
        line.rpartition("pilot=")[2].split()[0]
        for line in pilot.log.splitlines()
        if "pilot=" in line
    }
    assert len(names) == 1


def test_a_pilot_that_is_let_in_no_more_ends_and_its_next_life_reports(
    hasty_site: Site, start_pilot: StartPilot, pilot_root: Path
) -> None:
    hasty_site.apply_queue(site=hasty_site.site, lease_duration=Duration(seconds=120))
    server, rules = hasty_site.secure.servers[-1], hasty_site.secure.admission_file
    admitted = rules.read_text()
    place = PilotPlace(pilot_root / "p")
    task = hasty_site.submit("sleep 3")
    pilot = start(hasty_site, start_pilot, place=place, token_file=hasty_site.token_file())
    pilot.wait_for_log("payload starts")
    server.terminate()
    pilot.wait_for_log("stored file:")
    rules.write_text(admitted.replace('subject = "robot"', 'subject = "another"'))
    time.sleep(2)
    server.start()
    assert pilot.wait() == 3
    assert "refuses the pilot" in pilot.log
    assert list(place.work_dir.glob("reports/*.json"))
    server.terminate()
    rules.write_text(admitted)
    server.start()
    again = start(hasty_site, start_pilot, place=place, token_file=hasty_site.token_file())
    again.wait_for_log("of an earlier run")
    (job,) = hasty_site.finish(task)
    assert job.attempt == 1


def test_a_renewed_token_file_is_read_again_for_the_next_registration(
    hasty_site: Site, start_pilot: StartPilot
) -> None:
    brief = hasty_site.token_file(lifetime=timedelta(seconds=8))
    pilot = start(hasty_site, start_pilot, token_file=brief)
    pilot.wait_for_log("sent the inventory")
    server = hasty_site.secure.servers[-1]
    server.terminate()
    hasty_site.token_file()
    time.sleep(4)
    server.start()
    pilot.wait_for_log("token refreshed from")
    pilot.wait_for_log("registered for queue", count=2)
    hasty_site.finish(hasty_site.submit("true"))


def test_a_pilot_speaks_to_a_server_on_its_machine_through_a_socket_file(
    start_server: StartServer, start_pilot: StartPilot, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        socket = f"unix:{directory}/server.sock"
        server: PandawnServer = start_server(listen=f"{LOOPBACK}:{free_port()},{socket}")
        tier3 = Tier3(server, tmp_path / "t")
        start_pilot(tier3, server=socket)
        tier3.finish(tier3.submit("true"))
        tier3.close()


def run_hook(
    site: Site, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [HOOK, *arguments, "--server", site.target, "--site", site.site]
    return subprocess.run(
        [*command, "--ca", site.secure.ca_file],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_hook_begins_a_session_for_its_node(site: Site) -> None:
    token = site.token_file()
    add = ("add", "a.root=5", "--node", NODE, "--queue", site.queue)
    done = run_hook(site, *add, "--token-file", token)
    assert done.returncode == 0, done.stderr
    assert site.cached(NODE) == ["a.root"]
    done = run_hook(
        site,
        "delete",
        "a.root",
        "--node",
        NODE,
        PANDAWN_QUEUE=site.queue,
        BEARER_TOKEN=token.read_text(),
    )
    assert done.returncode == 0, done.stderr
    assert site.cached(NODE) == []


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--queue", "QUEUE"], 3, "CREDENTIALS_REQUIRED"),
        ([], 3, "CREDENTIALS_REQUIRED"),
        (["--token-file", "TOKEN"], 3, "NOT_YOUR_NODE"),
        (["--token-file", "TOKEN", "--queue", "NO-SUCH"], 3, "QUEUE_NOT_FOUND"),
        (["--token-file", "/no/such/file"], 2, "cannot read"),
    ],
)
def test_a_hook_that_is_not_let_in_says_so_at_once(
    site: Site, options: list[str], status: int, said: str
) -> None:
    known = {"QUEUE": site.queue, "TOKEN": str(site.token_file())}
    begin = time.monotonic()
    done = run_hook(site, "add", "a.root=5", "--node", NODE, *(known.get(o, o) for o in options))
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    # It did not try until its patience was over.
    assert time.monotonic() - begin < 25


def test_a_watching_hook_outlives_its_sessions(hasty_site: Site, pcache: Pcache) -> None:
    command = [HOOK, "sync", "--watch", "--scratch-dir", pcache.scratch]
    command += ["--node", NODE, "--site", hasty_site.site, "--queue", hasty_site.queue]
    command += ["--server", hasty_site.target, "--ca", hasty_site.secure.ca_file]
    command += ["--token-file", hasty_site.token_file()]
    with subprocess.Popen([str(word) for word in command]) as hook:
        try:
            for name in ("one.root", "two.root"):
                (source,) = pcache.make(name)
                pcache.get(source)
                wait_until(lambda name=name: name in hasty_site.cached(NODE))  # type: ignore[misc]
                # Longer than a session lasts.
                time.sleep(3)
            assert hook.poll() is None
        finally:
            hook.terminate()
    assert hook.returncode == 0
