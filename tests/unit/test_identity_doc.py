"""The example in docs/identity.md is right, and does what the page says."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from pandawn_server.admission_config import AdmissionFile, read_admission_file
from pandawn_server.domain.access.admission import Shown
from pandawn_server.domain.access.principals import Method, Role
from pandawn_server.domain.errors import ForbiddenError
from tests.fixtures.clock import NOON

PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity.md"
LATER = NOON + timedelta(hours=1)


@pytest.fixture
def file(tmp_path: Path) -> AdmissionFile:
    blocks = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "admission.toml"
    path.write_text(blocks[0])
    return read_admission_file(path)


def of_certificate(cn: str, *hosts: str) -> Shown:
    subject = f"/DC=org/DC=example/OU=People/CN={cn}" if not hosts else f"/CN={cn}"
    return Shown(Method.X509, "/CN=CA", subject, cn, LATER, hosts=hosts)


def of_token(subject: str, *groups: str, name: str = "") -> Shown:
    return Shown(
        Method.TOKEN,
        "https://iam.example.org/",
        subject,
        "x",
        LATER,
        groups=groups,
        scopes=frozenset(),
        claims={"preferred_username": name},
    )


def test_the_example_admits_whom_it_seems_to(file: AdmissionFile) -> None:
    admit = file.admission.admit
    assert admit(of_token("1f0c-33")).roles == frozenset({Role.PILOT})
    assert admit(of_certificate("wn7", "wn7.t3.example.org")).rule == "worker nodes"
    assert admit(of_certificate("Olga Operator")).is_operator
    assert admit(of_token("77", "/atlas/de", name="ann")).name == "ann"
    jane = admit(of_certificate("Jane Doe"))
    assert jane.name == admit(of_token("9e1a-77", "/atlas")).name == "jane"
    assert re.fullmatch(r"john\.[a-z2-7]{16}", admit(of_certificate("John")).name)


@pytest.mark.parametrize(
    "shown",
    [
        of_token("77", "/atlasx", name="ann"),
        of_token("77", "/atlas", name="jane"),
        of_certificate("wn7", "wn7.t3.example.org.evil.net"),
    ],
    ids=["another group", "a name that was given", "another domain"],
)
def test_the_example_admits_nobody_else(file: AdmissionFile, shown: Shown) -> None:
    with pytest.raises(ForbiddenError):
        file.admission.admit(shown)
