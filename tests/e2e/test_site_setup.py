"""docs/site-setup.md, followed to the letter: each block is typed on the machine that it names.

The machines are Linux namespaces with names, networks and files of their own. What is not typed is the
installation: /opt/pandawn is what the tests run in anyway.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.certificates import Authority
from tests.fixtures.machines import Machine, Machines
from tests.fixtures.tokens import TokenIssuer

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "site-setup.md"
TOKENS, TIER3 = "tokens", "tier3"
OPERATOR = "export PANDAWN_SERVER=unix:/run/pandawn/operator.sock\n"
_FENCE = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WAIT_S = 60.0
# Many programs start, and some wait for others, on a machine that may be busy.
pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Block:
    """A block of the page: commands, or a file where `file` says one."""

    kind: str
    on: str
    site: str
    file: str
    text: str


def blocks() -> list[Block]:
    found = []
    for kind, words, text in _FENCE.findall(DOCUMENT.read_text(encoding="utf-8")):
        told = dict(word.split("=", 1) for word in words.split())
        found.append(
            Block(kind, told.get("on", ""), told.get("site", ""), told.get("file", ""), text)
        )
    return found


def follow(machine: Machine, on: str, site: str) -> str:
    """Does what the page says is to be done on a kind of machine, in its order; returns what was said."""
    said = []
    for block in blocks():
        if block.on != on or block.site not in ("", site):
            continue
        if block.file:
            machine.write(block.file, block.text)
            continue
        said.append(machine.run(block.text).stdout)
        if "systemctl enable --now pandawn-server" in block.text:
            until(lambda: machine.run(f"{OPERATOR}pandawn whoami", check=False), machine)
    return "".join(said)


def until(ask: Callable[[], subprocess.CompletedProcess[str]], machine: Machine) -> None:
    deadline = time.monotonic() + _WAIT_S
    while True:
        done = ask()
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"{done.stdout}\n{done.stderr}\n{machine.journal()}")
        time.sleep(0.2)


def installed(machine: Machine) -> Machine:
    """In the place of the installation."""
    machine.run(f"ln -s {Path(sys.executable).parents[1]} /opt/pandawn")
    return machine


def test_every_block_says_where_it_is_typed() -> None:
    for block in blocks():
        assert block.kind == "text" or block.on in {"every", "server", "node", "user"}, block
        assert block.site in {"", TOKENS, TIER3}


def test_the_page_brings_up_a_site_with_tls_and_tokens(
    machines: Machines, authority: Authority, tmp_path: Path
) -> None:
    server = installed(machines.add("pandawn.example.org", 1))
    node = installed(machines.add("wn01.example.org", 11))
    user = installed(machines.add("laptop.example.org", 21))
    issuer = TokenIssuer("https://iam.example.org/")
    # What comes from elsewhere: the authority's files, the issuer's keys and tokens.
    chain, key = authority.host("pandawn.example.org").write(tmp_path, "host")
    for name, content in (
        ("hostcert.pem", chain.read_bytes()),
        ("hostkey.pem", key.read_bytes()),
        ("jwks.json", issuer.jwks().encode()),
    ):
        server.write(f"/root/{name}", content, 0o600)
    for machine in (node, user):
        machine.write("/etc/ssl/certs/example-ca.pem", authority.pem)
    node.write("/root/pilot.token", issuer.token("pilot-factory"), 0o600)
    anna = issuer.token("1234", groups=["/example"], claims={"preferred_username": "anna"})
    user.write("/root/my.token", anna, 0o600)

    assert "operator" in follow(server, "server", TOKENS)
    # The task waits for a pilot, and the pilot for the task.
    with ThreadPoolExecutor() as threads:
        pilot = threads.submit(follow, node, "node", TOKENS)
        said = follow(user, "user", TOKENS)
        pilot.result()
    assert "anna" in said
    (stored,) = machines.shared.glob("*/anna/first")
    names = sorted(path.name for path in stored.iterdir() if "hist" in path.name)
    assert names == ["first.1._000001.hist.root", "first.1._000002.hist.root"]
    # Who shows nothing, and who shows a user's token as a pilot, is not let in.
    nobody = user.run(
        "pandawn --server pandawn.example.org:25443 --ca /etc/ssl/certs/example-ca.pem logout;"
        " pandawn --server pandawn.example.org:25443 --ca /etc/ssl/certs/example-ca.pem tasks",
        check=False,
    )
    assert nobody.returncode == 3
    node.write("/root/pilot.token", anna, 0o600)
    refused = node.run(command_of("node", TOKENS), check=False)
    assert refused.returncode == 3, refused.stderr


def test_the_page_brings_up_a_tier3_of_nodes_with_names(machines: Machines) -> None:
    head = installed(machines.add("head.t3.example.org", 1))
    node = installed(machines.add("wn01.t3.example.org", 11))
    laptop = installed(machines.add("laptop.t3.example.org", 21))
    head.run("useradd --create-home --home-dir /srv/anna anna")
    follow(head, "server", TIER3)
    certificate = head.run("cat /etc/pandawn/hostcert.pem").stdout
    for machine in (node, laptop):
        machine.write("/etc/pandawn/head.pem", certificate)
    follow(node, "node", TIER3)
    (commands,) = (b.text for b in blocks() if (b.on, b.site, b.kind) == ("user", TIER3, "sh"))
    head.write("/srv/anna/try.sh", commands)
    said = head.run(
        "runuser -l anna -c 'PATH=/usr/local/bin:/opt/pandawn/bin:$PATH bash -eu try.sh'"
    )
    assert "wn01.t3.example.org" in said.stdout
    (stored,) = machines.shared.glob("*/anna/first")
    assert len([path for path in stored.iterdir() if "hist" in path.name]) == 2
    # A machine with another name, and one that claims a good name, are refused and told of.
    for claim in ("laptop.t3.example.org", "wn02.t3.example.org"):
        refused = laptop.run(
            "pandawn-pilot run --server head.t3.example.org:25443 --ca /etc/pandawn/head.pem"
            f" --queue ANALY_T3 --no-cache --work-dir /var/lib/pilot --node {claim} --idle-exit 5",
            check=False,
        )
        assert refused.returncode == 3, refused.stderr
        told = head.run(f"{OPERATOR}pandawn events").stdout
        assert f"claims to be {claim}" in told
    # A pilot's right is to be a pilot: no task is seen from the network.
    seen = node.run(
        "pandawn --server head.t3.example.org:25443 --ca /etc/pandawn/head.pem tasks", check=False
    )
    assert seen.returncode == 3, seen.stderr


def command_of(on: str, site: str) -> str:
    """The commands for a kind of machine of one site."""
    return "".join(b.text for b in blocks() if (b.on, b.site, b.kind) == (on, site, "sh"))
