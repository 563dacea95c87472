"""Accounts of payloads: which one, whose it is not, and that nothing is left under it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pandawn_pilot.errors import JobFailedError
from pandawn_pilot.node.account_leftovers import public_places
from pandawn_pilot.node.accounts import (
    AccountChoice,
    AccountError,
    AccountRange,
    OneAccount,
    SameAccount,
    open_accounts,
    parse_choice,
    processes_of,
)
from pandawn_pilot.node.namespaces import SHARED_MEMORY
from pandawn_pilot.node.trees import remove_tree
from pandawn_pilot.payload.command import without_secrets

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")


def test_a_choice_is_a_name_a_number_or_a_range() -> None:
    assert parse_choice("nobody") == AccountChoice(name="nobody")
    assert parse_choice("4711") == AccountChoice(first=4711, last=4711)
    assert parse_choice("70000-70009") == AccountChoice(first=70000, last=70009)
    for bad in ("0", "0-5", "9-3", "99999999999"):
        with pytest.raises(ValueError, match="user number"):
            parse_choice(bad)


@root_only
@pytest.mark.parametrize(
    ("choice", "why"),
    [
        (AccountChoice(name="root"), "so payloads could read all"),
        (AccountChoice(name="no-such-account"), "has no such account"),
        (AccountChoice(first=70000, last=70001), "has fewer accounts"),
    ],
)
def test_a_choice_that_cannot_do_is_refused(choice: AccountChoice, why: str) -> None:
    with pytest.raises(AccountError, match=why):
        open_accounts(choice, 5)


@root_only
def test_root_gives_payloads_accounts_of_their_own_unless_told_otherwise() -> None:
    assert isinstance(open_accounts(None, 1), AccountRange)
    assert isinstance(open_accounts(AccountChoice(name="nobody"), 5), OneAccount)
    assert isinstance(open_accounts(AccountChoice(name="same"), 5), SameAccount)


@root_only
def test_no_two_payloads_of_a_node_have_one_account_at_a_time(tmp_path: Path) -> None:
    # Two pilots, as far as the locks can tell.
    one, other = (AccountRange(70100, 70101, tmp_path) for _ in range(2))
    with one.borrow() as first, other.borrow() as second:
        assert first is not None
        assert second is not None
        assert {first.uid, second.uid} == {70100, 70101}
        with pytest.raises(JobFailedError, match="all user numbers"), one.borrow():
            pass
    with other.borrow() as again:
        assert again is not None


@root_only
def test_what_runs_under_a_borrowed_account_ends_with_it(tmp_path: Path) -> None:
    with AccountRange(70200, 70200, tmp_path).borrow() as account:
        assert account is not None
        left = subprocess.Popen(["sleep", "600"], user=account.uid, cwd="/")
        assert processes_of(account.uid) == [left.pid]
    assert left.wait(20) == -9
    # Somebody else's process keeps the number from being lent.
    stranger = subprocess.Popen(["sleep", "600"], user=70200, cwd="/")
    with pytest.raises(JobFailedError), AccountRange(70200, 70200, tmp_path).borrow():
        pass
    stranger.kill()
    stranger.wait()


@root_only
def test_what_a_borrowed_account_owns_where_all_may_write_goes_with_it(tmp_path: Path) -> None:
    public = tmp_path / "public"
    shared = public / "of-others"
    shared.mkdir(parents=True)
    for directory in (public, shared):
        directory.chmod(0o1777)
    (public / "of-root").write_text("stays")
    (public / "out").mkdir()
    (public / "out/kept").write_text("stays")
    script = f"""
        cd {public}; echo x > file; mkdir -p a/b; echo x > a/b/c; ln -s {public}/out a/link; ln -s out b
        chmod 000 a; cp /bin/true suid; chmod 4777 suid; mkfifo pipe; mkdir of-others/d; echo x > of-others/d/e
        ipcmk -M 4096 -p 0600; ipcmk -S 1; ipcmk -Q
        """
    with AccountRange(70300, 70300, tmp_path / "locks", [public]).borrow() as account:
        assert account is not None
        assert account.made
        subprocess.run(["/bin/sh", "-c", script], user=account.uid, check=True, capture_output=True)
    assert sorted(str(path.relative_to(public)) for path in public.rglob("*")) == [
        *("of-others", "of-root", "out", "out/kept")
    ]
    with AccountRange(70300, 70300, tmp_path / "locks").borrow():
        kinds = [Path("/proc/sysvipc", kind).read_text() for kind in ("shm", "sem", "msg")]
        assert not any("70300" in text.split() for text in kinds)


@root_only
def test_what_the_account_of_a_killed_pilot_has_left_is_removed_by_any_pilot(
    tmp_path: Path,
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o1777)
    script = f"""
        import os, subprocess, sys
        from pathlib import Path
        from pandawn_pilot.node.accounts import AccountRange
        with AccountRange(70400, 70400, Path({str(tmp_path / "locks")!r}), []).borrow() as account:
            subprocess.Popen(["sleep", "600"], user=account.uid)
            subprocess.run(["touch", {str(public / "left")!r}], user=account.uid, check=True)
            os.kill(os.getpid(), 9)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert (public / "left").exists()
    assert len(processes_of(70400)) == 1
    with AccountRange(70401, 70401, tmp_path / "locks", [public]).borrow():
        assert not (public / "left").exists()
        assert processes_of(70400) == []


@root_only
def test_no_place_where_all_may_write_is_forgotten() -> None:
    places = set(public_places())
    known = {Path(name) for name in ("/tmp", "/var/tmp", SHARED_MEMORY)}  # noqa: S108
    assert {path for path in known if path.stat().st_mode & stat.S_IWOTH} <= places


@pytest.mark.parametrize(
    "name",
    [
        *("PANDAWN_TOKEN", "BEARER_TOKEN", "BEARER_TOKEN_FILE", "X509_USER_PROXY", "X509_USER_KEY"),
        *("SSH_AUTH_SOCK", "KRB5CCNAME", "_CONDOR_CREDS", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD"),
        *("github_token", "XDG_RUNTIME_DIR", "GOOGLE_APPLICATION_CREDENTIALS", "GRPC_VERBOSITY"),
    ],
)
def test_payloads_do_not_see_variables_of_credentials(name: str) -> None:
    kept = {
        "PATH": "/bin",
        "X509_CERT_DIR": "/etc/c",
        "ATLAS_LOCAL_ROOT_BASE": "/cvmfs",
        "LANG": "C",
    }
    assert without_secrets({name: "x", **kept}) == kept


def test_directories_nested_by_the_thousand_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    script = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    subprocess.run([sys.executable, "-c", script], cwd=top, check=True)
    remove_tree(top)
    assert not top.exists()
