from pathlib import Path

import pytest

from pandawn_tools.cli.errors import CliError, ExitStatus
from pandawn_tools.cli.settings import Address, find_address, parse_address


def write_config(home: Path, content: str) -> dict[str, str]:
    path = home / "pandawn" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return {"XDG_CONFIG_HOME": str(home)}


def test_the_option_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    environ = write_config(tmp_path, 'server = "file:1"')
    assert find_address(None, environ).target == "file:1"
    environ["PANDAWN_SERVER"] = "environment:2"
    assert find_address(None, environ).target == "environment:2"
    assert find_address("option:3", environ).target == "option:3"


def test_without_any_setting_the_server_is_on_loopback(tmp_path: Path) -> None:
    assert find_address(None, {"HOME": str(tmp_path)}).target == "127.0.0.1:25443"


def test_an_address_without_a_port_gets_the_default_one() -> None:
    assert parse_address("pandawn.example.org", "a test").target == "pandawn.example.org:25443"
    assert parse_address("[::1]", "a test").target == "[::1]:25443"


@pytest.mark.parametrize(
    "text", ["", "a b", "host:", "host:x", "host:0", "host:65536", "http://h:1"]
)
def test_a_malformed_address_names_where_it_came_from(text: str) -> None:
    with pytest.raises(CliError, match="--server") as caught:
        find_address(text, {})
    assert caught.value.status is ExitStatus.USAGE
    assert caught.value.reason == "INVALID_ADDRESS"


@pytest.mark.parametrize("content", ["server =", 'sever = "a:1"', "server = 1", "\xff"])
def test_a_wrong_configuration_file_is_named(tmp_path: Path, content: str) -> None:
    environ = write_config(tmp_path, "")
    Path(tmp_path, "pandawn", "config.toml").write_bytes(content.encode("latin-1"))
    with pytest.raises(CliError, match=r"config\.toml") as caught:
        find_address(None, environ)
    assert caught.value.reason == "INVALID_CONFIGURATION"


@pytest.mark.parametrize(
    ("target", "is_loopback"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("example.org:1", False)],
)
def test_loopback_is_known_by_name(target: str, *, is_loopback: bool) -> None:
    assert Address(target, "a test").is_loopback is is_loopback
