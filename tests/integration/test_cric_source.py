"""The list of queues from files and from real web servers, good and bad."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pandawn_tools.cric.source import Fetched, SourceError, Validators, fetch
from tests.fixtures.web import WebSite, serve_web, without_proxies

BODY = b'{"Q": {}}'


@pytest.fixture
def site(web_site: WebSite) -> WebSite:
    web_site.body = BODY
    return web_site


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return ca, path


@pytest.fixture
def secure_site(
    authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[WebSite]:
    without_proxies(monkeypatch)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("127.0.0.1").configure_cert(context)
    for made in serve_web(context):
        made.body = BODY
        yield made


def test_a_path_and_a_file_url_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a b.json"
    path.write_bytes(BODY)
    assert fetch(str(path)) == Fetched(BODY)
    assert fetch(path.as_uri()) == Fetched(BODY)


def test_what_cannot_be_read_or_has_no_end_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for source, said in (
        (str(tmp_path / "nope"), "No such file"),
        (str(tmp_path), "not a regular file"),
        (str(fifo), "not a regular file"),
        ("/dev/zero", "not a regular file"),
        ("file://elsewhere/x", "another machine"),
        ("ftp://example.org/x", "is not supported"),
        ("gopher://x", "is not supported"),
    ):
        with pytest.raises(SourceError, match=said):
            fetch(source)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 101)
    with pytest.raises(SourceError, match="larger than"):
        fetch(str(path), max_bytes=100)


def test_a_list_comes_from_a_web_server_and_only_a_new_version_comes_again(site: WebSite) -> None:
    site.headers = {"ETag": '"v1"', "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    first = fetch(site.url)
    assert first is not None
    assert first.body == BODY
    assert fetch(site.url, known=first.validators) is None
    assert site.asked[1]["If-None-Match"] == '"v1"'
    assert site.asked[1]["If-Modified-Since"] == "Mon, 02 Nov 2026 10:00:00 GMT"
    site.headers["ETag"] = '"v2"'
    assert fetch(site.url, known=first.validators) is not None
    assert fetch(site.url, known=Validators()) is not None


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusal_is_told_with_its_number(site: WebSite, status: int) -> None:
    site.status = status
    with pytest.raises(SourceError, match=f"answered {status}"):
        fetch(site.url)


def test_an_answer_that_is_too_large_is_not_read(site: WebSite) -> None:
    site.body = b"x" * 101
    with pytest.raises(SourceError, match="larger than"):
        fetch(site.url, max_bytes=100)
    site.length = 10**12
    with pytest.raises(SourceError, match="larger than"):
        fetch(site.url)


def test_an_answer_that_breaks_off_is_not_taken_for_the_list(site: WebSite) -> None:
    site.length = len(BODY) + 1
    with pytest.raises(SourceError, match="broke off after 9 of 10 bytes"):
        fetch(site.url)


def test_a_server_that_drips_is_given_up(site: WebSite) -> None:
    site.pause_s = 0.3
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"too slowly|did not send the list within 0\.5 s"):
        fetch(site.url, timeout_s=0.5)
    assert time.monotonic() - begin < 60


def test_nobody_there_is_told(site: WebSite) -> None:
    with pytest.raises(SourceError, match="refused"):
        fetch("http://127.0.0.1:1/x")
    assert site.asked == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_does_not_lead_to_files(site: WebSite, target: str) -> None:
    site.status, site.headers = 302, {"Location": target}
    with pytest.raises(SourceError, match=r"not allowed|not trusted"):
        fetch(site.url)


def test_https_needs_a_certificate_that_is_trusted(
    secure_site: WebSite, authority: tuple[trustme.CA, Path]
) -> None:
    assert fetch(secure_site.url, ca=authority[1]) == Fetched(BODY)
    with pytest.raises(SourceError, match="is not trusted") as refusal:
        fetch(secure_site.url)
    assert "--ca" in refusal.value.remedy


def test_https_is_not_left_for_http(
    secure_site: WebSite, authority: tuple[trustme.CA, Path], site: WebSite
) -> None:
    secure_site.status, secure_site.headers = 302, {"Location": site.url}
    with pytest.raises(SourceError, match="not trusted"):
        fetch(secure_site.url, ca=authority[1])
    assert site.asked == []


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path, secure_site: WebSite) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    for path in (bad, tmp_path / "nope.pem"):
        with pytest.raises(SourceError, match="has no readable certificates"):
            fetch(secure_site.url, ca=path)
