"""An address says what it takes, and one that would let strangers in is refused."""

import pytest

from pandawn_server.config import ConfigError, load_settings
from pandawn_server.domain.access.principals import Method
from pandawn_server.listeners import Tls, parse_listener


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1:25443",
        "127.8.9.1:0",
        "[::1]:25443",
        "unix:/run/pandawn/server.sock",
        "unix:/run/pandawn/server.sock?mode=0660",
        "127.0.0.1:1?auth=local",
        "127.0.0.1:1?auth=token+local",
    ],
)
def test_what_only_this_machine_reaches_needs_no_authenticator(entry: str) -> None:
    assert parse_listener(entry).admits_this_machine


@pytest.mark.parametrize(
    "entry",
    [
        "0.0.0.0:25443",
        "[::]:25443",
        "192.0.2.7:25443",
        "server.example.org:25443",
        # A name leads where the name service says, localhost too.
        "localhost:25443",
        "[::ffff:127.0.0.1]:25443",
        "[fe80::1]:25443",
        "0.0.0.0:25443?tls=on",
        "0.0.0.0:25443?auth=",
        "0.0.0.0:25443?auth=local",
        "0.0.0.0:25443?auth=token+local&tls=on",
    ],
)
def test_any_other_address_without_one_is_refused_and_told_what_to_do(entry: str) -> None:
    with pytest.raises(ValueError, match=r"would be the operator; .*\?auth=token&tls=on"):
        parse_listener(entry)


def test_the_server_does_not_start_at_such_an_address() -> None:
    with pytest.raises(ConfigError, match=r"--listen: '0.0.0.0:1': everybody who can connect"):
        load_settings({"listen": ["127.0.0.1:0", "0.0.0.0:1"]})


def test_options_are_read_in_any_order() -> None:
    listener = parse_listener("[::]:25443?tls=on&forwarded=on&auth=token+x509+host")
    assert listener.address == "[::]:25443"
    assert listener.methods == (Method.TOKEN, Method.X509, Method.HOST)
    assert (listener.tls, listener.is_forwarded) == (Tls.ON, True)
    assert not listener.admits_this_machine
    assert parse_listener("unix:/s?mode=0660").socket_mode == 0o660


@pytest.mark.parametrize("tls", ["on", "proxy"])
def test_tokens_over_the_network_want_tls_here_or_at_a_declared_proxy(tls: str) -> None:
    with pytest.raises(ValueError, match="tokens would travel in the clear"):
        parse_listener("0.0.0.0:1?auth=token")
    assert parse_listener(f"0.0.0.0:1?auth=token&tls={tls}").tls is Tls(tls)
    assert parse_listener("127.0.0.1:1?auth=token").tls is Tls.OFF


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("127.0.0.1", "is not HOST:PORT"),
        ("127.0.0.1:65536", "is not HOST:PORT"),
        ("127.0.0.1:\u0661", "is not HOST:PORT"),
        ("::1:25443", "in brackets"),
        ("unix:run/server.sock", "full path"),
        ("unix:/" + "s" * 107, "107 bytes"),
        ("127.0.0.1:1?", "there is no option ''"),
        ("127.0.0.1:1?colour=red", "there is no option 'colour'; use auth, tls"),
        ("127.0.0.1:1?tls=on&tls=off", "tls is given twice"),
        ("127.0.0.1:1?tls=yes", "tls is on, off or proxy"),
        ("127.0.0.1:1?auth=tokens", "auth takes x509+token+host+local, not 'tokens'"),
        ("127.0.0.1:1?auth=session", "auth takes"),
        ("127.0.0.1:1?auth=token+token", "names a method twice"),
        ("127.0.0.1:1?auth=host+token", "put host last"),
        ("127.0.0.1:1?auth=host+local", "put host last"),
        ("127.0.0.1:1?auth=local+host", "local would never apply"),
        ("127.0.0.1:1?auth=token&forwarded=yes", "forwarded is on or off"),
        ("127.0.0.1:1?mode=0600", "mode is for unix:PATH only"),
        ("unix:/s?mode=rw", "mode is octal"),
        ("unix:/s?mode=0060", "mode is octal"),
        ("unix:/s?mode=1777", "mode is octal"),
        ("unix:/s?mode=0666", "every user of this machine would be the operator"),
        ("127.0.0.1:1?forwarded=on", "behind the proxy would be the operator"),
        ("127.0.0.1:1?tls=proxy", "behind the proxy would be the operator"),
        ("127.0.0.1:1?auth=local+token&forwarded=on", "behind the proxy"),
        ("0.0.0.0:1?auth=x509", "auth=x509 needs tls=on"),
        ("0.0.0.0:1?auth=x509&tls=proxy", "auth=x509 needs tls=on"),
        ("unix:/s?auth=token&tls=on", "a socket file cannot have TLS"),
        ("unix:/s?auth=host", "have no address"),
    ],
)
def test_an_entry_that_makes_no_sense_says_why(entry: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^'") as refused:
        parse_listener(entry)
    assert problem in str(refused.value)
    assert entry in str(refused.value)


def test_who_believes_proxies_must_name_them() -> None:
    entry = "0.0.0.0:1?auth=host&forwarded=on"
    with pytest.raises(ConfigError, match="has forwarded=on; name the proxies in trusted_proxies"):
        load_settings({"listen": [entry]})
    settings = load_settings({"listen": [entry], "trusted_proxies": ["192.0.2.0/24"]}).settings
    assert [str(network) for network in settings.proxy_networks] == ["192.0.2.0/24"]
    with pytest.raises(ConfigError, match=r"--trusted-proxies: .*192.0.2.1/24"):
        load_settings({"trusted_proxies": ["192.0.2.1/24"]})


def test_it_is_described_for_people() -> None:
    assert (
        parse_listener("127.0.0.1:1").described() == "callers on this machine are operators; no TLS"
    )
    host = parse_listener("0.0.0.0:1?auth=host").described()
    assert host == "takes host; no TLS: session tokens travel in the clear"
    both = parse_listener("[::]:1?auth=token+host&tls=proxy&forwarded=on").described()
    assert both == "takes token, host; TLS ends at a proxy; trusted proxies name their clients"
