"""The address of the server, and the configuration file: option, environment, file, default, in this order."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pandawn_client.address import DEFAULT_PORT, parse_server
from pandawn_tools.cli.errors import usage_error

DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"
SERVER_VARIABLE = "PANDAWN_SERVER"

_LOOPBACK = re.compile(r"127\.[0-9.]+|localhost|\[::1\]")
_TEXTS = ("server", "ca", "cert", "key", "token_file")
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's address `host:port` or `unix:/path`, and where it was found, for people."""

    target: str
    source: str
    is_default: bool = False

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine's loopback, by its name, or a socket file."""
        return self.is_socket or _LOOPBACK.fullmatch(self.target.rpartition(":")[0]) is not None

    @property
    def is_socket(self) -> bool:
        """Whether it is a socket file."""
        return self.target.startswith(_UNIX)


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration file says; None for what it leaves out. `path` is where it is, or would be."""

    path: Path
    server: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    tls: bool | None = None


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
    configured = read_config(environ)
    if configured.server is not None:
        return parse_address(configured.server, str(configured.path))
    return Address(DEFAULT_SERVER, "the default", is_default=True)


def parse_address(text: str, source: str) -> Address:
    """Reads `host`, `host:port` or `unix:/path`; an IPv6 address stands in brackets.

    Raises:
        CliError: It is none of them.
    """
    try:
        return Address(parse_server(text), source)
    except ValueError as error:
        raise usage_error(
            "INVALID_ADDRESS",
            f"{text.strip()!r}, from {source}, is not the address of a server",
            remedies=["write HOST or HOST:PORT, such as pandawn.example.org:25443, or unix:/PATH"],
        ) from error


def read_config(environ: Mapping[str, str]) -> Configured:
    """Returns what the user's configuration file says.

    Raises:
        CliError: It is malformed.
    """
    path = config_path(environ)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return Configured(path)
    except OSError as error:
        raise usage_error(
            "INVALID_CONFIGURATION",
            f"the configuration file {path} cannot be read: {error.strerror}",
            remedies=[
                "the file is in $XDG_CONFIG_HOME, else in $HOME/.config: check that you may read these",
            ],
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise usage_error(
            "INVALID_CONFIGURATION",
            f"the configuration file {path} cannot be read",
            details=[str(error)],
            remedies=['write it in TOML, such as: server = "pandawn.example.org:25443"'],
        ) from error
    texts = {name: content.pop(name) for name in _TEXTS if name in content}
    tls = content.pop("tls", None)
    wrong = [
        f"`{name}` is not a string" for name, value in texts.items() if not isinstance(value, str)
    ]
    if tls is not None and not isinstance(tls, bool):
        wrong.append("`tls` is neither true nor false")
    if content:
        wrong.append(f"unknown keys: {', '.join(sorted(content))}")
    if wrong:
        raise usage_error(
            "INVALID_CONFIGURATION",
            f"the configuration file {path} is wrong",
            details=wrong,
            remedies=[f"its keys are {', '.join(_TEXTS)} (strings) and tls (true or false)"],
        )
    return Configured(path, tls=tls, **texts)
