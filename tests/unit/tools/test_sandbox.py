import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from pandawn_tools.cli import sandbox
from pandawn_tools.cli.errors import CliError
from pandawn_tools.cli.sandbox import pack


def make_code(root: Path) -> Path:
    (root / "lib").mkdir(parents=True)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o775)
    (root / "lib" / "util.py").write_text("x = 1\n")
    (root / "lib" / "link.py").symlink_to("util.py")
    return root


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return {member.name: member for member in tar.getmembers()}


def test_the_same_code_packs_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = make_code(tmp_path / "one"), make_code(tmp_path / "two")
    for number, path in enumerate(sorted(second.rglob("*"), reverse=True)):
        os.utime(path, (number, number), follow_symlinks=False)
    (second / "run.sh").chmod(0o700)
    assert pack(first, []) == pack(second, [])


def test_changed_code_packs_to_other_bytes(tmp_path: Path) -> None:
    code = make_code(tmp_path / "code")
    before = pack(code, [])
    (code / "lib" / "util.py").write_text("x = 2\n")
    assert pack(code, []) != before


def test_owners_and_times_stay_at_home(tmp_path: Path) -> None:
    archive = pack(make_code(tmp_path / "code"), [])
    assert gzip.GzipFile(fileobj=io.BytesIO(archive)).read(1)
    for member in members(archive).values():
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (
            0,
            0,
            0,
            "",
            "",
        )


def test_whether_the_owner_may_execute_is_kept(tmp_path: Path) -> None:
    packed = members(pack(make_code(tmp_path / "code"), []))
    assert packed["run.sh"].mode == 0o755
    assert packed["lib/util.py"].mode == 0o644
    assert packed["lib/link.py"].linkname == "util.py"


def test_history_and_bytecode_are_left_out(tmp_path: Path) -> None:
    code = make_code(tmp_path / "code")
    for name in (".git", "lib/__pycache__"):
        (code / name).mkdir()
        (code / name / "x").write_text("x")
    assert set(members(pack(code, []))) == {"lib", "lib/link.py", "lib/util.py", "run.sh"}


def test_single_files_lie_at_the_top_and_links_to_them_are_followed(tmp_path: Path) -> None:
    code = make_code(tmp_path / "code")
    packed = members(pack(None, [code / "run.sh", code / "lib" / "link.py"]))
    assert set(packed) == {"run.sh", "link.py"}
    assert packed["link.py"].isreg()


def test_a_file_with_two_names_is_packed_twice(tmp_path: Path) -> None:
    code = make_code(tmp_path / "code")
    (code / "twin.sh").hardlink_to(code / "run.sh")
    packed = members(pack(code, []))
    assert packed["twin.sh"].isreg()
    assert packed["run.sh"].isreg()


def test_all_that_cannot_be_packed_is_listed(tmp_path: Path) -> None:
    code = make_code(tmp_path / "code")
    (code / "out").symlink_to("/etc/passwd")
    os.mkfifo(code / "fifo")
    with pytest.raises(CliError) as caught:
        pack(code, [tmp_path / "missing", code / "run.sh"])
    text = "\n".join(caught.value.details)
    assert len(caught.value.details) == 4
    for word in ("outside the sandbox", "fifo", "no such file", "already has a run.sh"):
        assert word in text


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_a_sandbox_that_is_no_directory_with_code_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(CliError, match="nothing was sent"):
        pack(tmp_path / name, [])


def test_a_sandbox_above_the_limit_is_refused_while_it_is_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MAX_SANDBOX_BYTES", 10_000)
    (tmp_path / "data").write_bytes(os.urandom(20_000))
    with pytest.raises(CliError) as caught:
        pack(tmp_path, [])
    assert caught.value.reason == "SANDBOX_TOO_LARGE"
