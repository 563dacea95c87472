"""Where the server is: option, environment, configuration file, default; in this order."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pandawn_tools.cli.errors import usage_error

DEFAULT_PORT = 25443
DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"
SERVER_VARIABLE = "PANDAWN_SERVER"

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?)"
_ADDRESS = re.compile(rf"(?P<host>{_HOST})(?::(?P<port>\d{{1,5}}))?")
_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|\[::1\]")
_KEYS = frozenset({"server"})


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address `host:port`, and where it was found, for people."""

    target: str
    source: str

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's loopback, by its name."""
        return _LOOPBACK.fullmatch(self.target.rpartition(":")[0]) is not None


def config_path(environ: Mapping[str, str]) -> Path:
    """Returns the path of the user's configuration file, there or not."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~"), ".config"))
    return Path(base).expanduser() / "pandawn" / "config.toml"


def find_address(option: str | None, environ: Mapping[str, str] | None = None) -> Address:
    """Returns the address of the server to talk to.

    Raises:
        CliError: An address or the configuration file is malformed.
    """
    environ = os.environ if environ is None else environ
    if option is not None:
        return parse_address(option, "--server")
    if environ.get(SERVER_VARIABLE):
        return parse_address(environ[SERVER_VARIABLE], f"the variable {SERVER_VARIABLE}")
    path = config_path(environ)
    configured = _read_server(path)
    if configured is not None:
        return parse_address(configured, str(path))
    return Address(DEFAULT_SERVER, "the default")


def parse_address(text: str, source: str) -> Address:
    """Reads `host` or `host:port`; an IPv6 address stands in brackets.

    Raises:
        CliError: It is neither.
    """
    match = _ADDRESS.fullmatch(text.strip())
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise usage_error(
            "INVALID_ADDRESS",
            f"{text!r}, from {source}, is not the address of a server",
            remedies=["write it as HOST or HOST:PORT, such as pandawn.example.org:25443"],
        )
    return Address(f"{match['host']}:{port}", source)


def _read_server(path: Path) -> str | None:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise usage_error(
            "INVALID_CONFIGURATION",
            f"the configuration file {path} cannot be read",
            details=[str(error)],
            remedies=['write it in TOML, such as: server = "pandawn.example.org:25443"'],
        ) from error
    unknown = sorted(set(content) - _KEYS)
    server = content.get("server")
    if unknown or (server is not None and not isinstance(server, str)):
        what = f"unknown keys: {', '.join(unknown)}" if unknown else "`server` is not a text"
        raise usage_error(
            "INVALID_CONFIGURATION",
            f"the configuration file {path} is wrong",
            details=[what],
            remedies=['it may hold one key: server = "HOST:PORT"'],
        )
    return server
