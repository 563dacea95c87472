"""A site with tokens from the command line: users, an administrator, an operator, and what each may do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.certificates import Authority
from tests.fixtures.command import RunCli, Said
from tests.fixtures.secure import RULES, SecureSite

QUEUE, FAR = "ANALY_T3", "ANALY_FAR"
ADMINISTRATORS = """
[[admit]]
name = "administrators of T3"
method = "token"
subject = "rosa"
roles = ["site-admin", "user"]
sites = ["T3"]
user_claim = "preferred_username"
"""


@dataclass(frozen=True)
class Site:
    """The command line as several people use it."""

    secure: SecureSite
    target: str
    operators: str
    run_cli: RunCli

    def run(self, name: str, *arguments: str, groups: tuple[str, ...] = ()) -> Said:
        """Runs a command with the token of somebody; the operator uses the address of the machine."""
        if name == "operator":
            return self.run_cli(*arguments, PANDAWN_SERVER=self.operators)
        token = self.secure.issuer.token(name, groups=groups, claims={"preferred_username": name})
        return self.run_cli(
            *arguments,
            PANDAWN_SERVER=self.target,
            PANDAWN_CA=str(self.secure.ca_file),
            BEARER_TOKEN=token,
            COLUMNS="250",
        )

    def ok(self, name: str, *arguments: str, groups: tuple[str, ...] = ()) -> str:
        said = self.run(name, *arguments, groups=groups)
        assert said.status == 0, said
        return said.out

    def refused(self, name: str, *arguments: str) -> str:
        said = self.run(name, *arguments)
        assert said.status == 3, said
        return said.err

    def submit(self, name: str, *more: str, groups: tuple[str, ...] = ()) -> str:
        return self.ok(name, "submit", "--jobs", "1", *more, "--", "true", groups=groups)


@pytest.fixture
def site(secure_site: SecureSite, run_cli: RunCli, tmp_path: Path) -> Site:
    begin, end = RULES.split("[[admit]]", 1)
    secure_site.admission_file.write_text(f"{begin}{ADMINISTRATORS}\n[[admit]]{end}")
    target = secure_site.start("auth=token+x509&tls=on&proxies=accept")
    site = Site(secure_site, target, secure_site.servers[0].address, run_cli)
    for queue, at in ((QUEUE, "T3"), (FAR, "FAR")):
        root = str(tmp_path / "storage")
        site.ok("operator", "queues", "apply", queue, "--site", at, "--storage-root", root)
    return site


def test_users_work_on_their_own_and_are_told_whom_to_ask(site: Site) -> None:
    assert "task 1 of ann: 1 run job" in site.submit("ann", "--queue", QUEUE)
    assert "task 2 of ben: 1 run job" in site.submit("ben", "--queue", FAR)
    assert [t["task_id"] for t in json.loads(site.ok("ann", "tasks", "--json"))] == [1]
    assert [t["task_id"] for t in json.loads(site.ok("rosa", "tasks", "--json"))] == [1]
    assert [t["task_id"] for t in json.loads(site.ok("operator", "tasks", "--json"))] == [2, 1]
    for command in (("kill", "--task", "1"), ("tasks", "1"), ("jobs", "--task", "1")):
        err = site.refused("ben", *command)
        assert "[NOT_YOUR_TASK]" in err
        assert "the administrators of site T3" in err
    assert "[NOT_YOUR_JOB]" in site.refused("ben", "why", "1")
    assert "[NOT_YOUR_TASK]" in site.refused("rosa", "kill", "--task", "2")
    assert "[NOT_YOUR_NAME]" in site.refused(
        "ben", *("submit", "--jobs", "1", "--user", "ann", "--", "true")
    )
    site.ok("rosa", "kill", "--task", "1")
    told = site.ok("ann", "events", "--tail", "0")
    assert "task 2" not in told
    assert "JOB_CANCELLED" in told


def test_an_administrator_keeps_the_list_of_its_own_queues_only(site: Site) -> None:
    site.ok("rosa", "access", "grant", "token-group:/atlas", QUEUE, "--deny", "-m", "too many")
    assert "[SITE_ADMIN_REQUIRED]" in site.refused("rosa", "access", "grant", "ann", FAR)
    assert "[ROLE_MISSING]" in site.refused("ann", "access", "show", QUEUE)
    err = site.run(
        "ann", "submit", "--jobs", "1", "--queue", QUEUE, "--", "true", groups=("/atlas/t",)
    )
    assert "[QUEUE_ACCESS_DENIED]" in err.err
    assert "too many" not in err.err
    out = site.submit("ann", "--json", groups=("/atlas/t",))
    task = json.loads(out)
    assert (task["queue"], task["passed_over"]) == (FAR, f"{QUEUE}: not for ann")
    said = site.ok("rosa", "access", "check", "ann", QUEUE)
    assert "its list denies token-group /atlas" in said
    assert "/atlas/t" in said
    own = site.ok("ann", "access", "check", "ann", QUEUE, groups=("/atlas/t",))
    assert "ann may not use queue" in own
    assert "atlas" not in own.splitlines()[0]


def test_the_audit_knows_them_by_their_credentials(site: Site) -> None:
    site.submit("ann", "--queue", QUEUE)
    site.refused("ben", "kill", "--task", "1")
    site.ok("rosa", "kill", "--task", "1")
    assert "[ROLE_MISSING]" in site.refused("ann", "audit")
    found = json.loads(site.ok("rosa", "audit", "--task", "1", "--json"))
    while len(found) < 3:
        # Refusals are written within a second or so.
        found = json.loads(site.ok("rosa", "audit", "--task", "1", "--json"))
    said = {(line["rpc"], line["user"], line["code"], line["rule"]) for line in found}
    assert said == {
        ("Broker.SubmitTask", "ann", "OK", "people with tokens"),
        ("Broker.CancelTask", "ben", "PERMISSION_DENIED", "people with tokens"),
        ("Broker.CancelTask", "rosa", "OK", "administrators of T3"),
    }
    assert {line["peer"] for line in found} == {"127.0.0.1"}
    (denied,) = json.loads(site.ok("operator", "audit", "--denied", "--user", "ben", "--json"))
    assert (denied["reason"], denied["task_id"]) == ("NOT_YOUR_TASK", 1)


def test_a_revision_says_from_where_it_was_made_whatever_ends_tls_before_the_server(
    site: Site,
) -> None:
    site.ok("rosa", "queues", "apply", QUEUE, "--cores", "4")
    newest = json.loads(site.ok("rosa", "queues", "history", QUEUE, "--json"))[0]
    assert newest["author"].endswith("rosa")
    assert newest["peer"].startswith("ipv4:127.0.0.1:")


def test_a_proxy_s_owner_is_denied_by_the_name_in_the_certificate(
    site: Site, authority: Authority, tmp_path: Path
) -> None:
    def submit() -> Said:
        proxy = authority.person().proxy().write_proxy(tmp_path / "proxy")
        return site.run_cli(
            *("submit", "--jobs", "1", "--queue", QUEUE, "--", "true"),
            PANDAWN_SERVER=site.target,
            PANDAWN_CA=str(site.secure.ca_file),
            X509_USER_PROXY=str(proxy),
        )

    said = submit()
    assert "task 1 of jane: 1 run job" in said.out, said
    site.ok("rosa", "access", "grant", "dn:/DC=org/DC=example/OU=People/CN=J*", QUEUE, "--deny")
    assert "[QUEUE_ACCESS_DENIED]" in submit().err
    said_of = site.ok("rosa", "access", "check", "jane", QUEUE)
    assert "its list denies dn /DC=org/DC=example/OU=People/CN=J*" in said_of
    (line,) = json.loads(site.ok("rosa", "audit", "--user", "jane", "--task", "1", "--json"))
    assert (line["method"], line["subject"]) == (
        "x509",
        "/DC=org/DC=example/OU=People/CN=Jane Doe",
    )
