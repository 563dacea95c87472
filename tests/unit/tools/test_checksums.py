import hashlib
from pathlib import Path

import pytest

from pandawn_tools.cli.checksums import read_checksum, sha256_of_all

ADLER = "adler32:0a6862d0"
MD5 = "md5:d41d8cd98f00b204e9800998ecf8427e"
SHA = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (ADLER, ADLER),
        ("adler32:0A6862D0", ADLER),
        ("ADLER32:0a6862d0", ADLER),
        ("adler32:a6862d0", ADLER),
        ("adler32:40001", "adler32:00040001"),
        ("AD:0a6862d0", ADLER),
        ("adler32=0a6862d0", ADLER),
        ("0a6862d0", ADLER),
        (MD5.upper(), MD5),
        (MD5.removeprefix("md5:"), MD5),
        (SHA.upper(), SHA),
        ("sha-256:" + "0a" * 32, SHA),
    ],
)
def test_a_checksum_is_understood_however_it_is_spelled(text: str, meant: str) -> None:
    assert read_checksum(text) == meant


@pytest.mark.parametrize("text", ["", "1000", "f.root", "/x:y", "0a6862d", "a=b c"])
def test_what_does_not_look_like_a_checksum_is_none(text: str) -> None:
    assert read_checksum(text) is None


@pytest.mark.parametrize("text", ["crc32c:0a1b2c3d", "md5:0a", "adler32:0a1b2c3d4", "adler32:xyz"])
def test_a_checksum_that_nobody_can_compare_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_checksum(text)


def test_a_file_that_cannot_be_read_is_the_only_one_without_a_sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    good, bad = sha256_of_all([tmp_path / "a", tmp_path / "none"], 1)
    assert good == f"sha256:{hashlib.sha256(b'a').hexdigest()}"
    assert isinstance(bad, FileNotFoundError)
