"""The settings of the server: one frozen object from flags, environment, a TOML file and defaults.

The first of these that sets a value wins. In the environment a setting is `PANDAWN_` plus its name in capitals, in
the file its name; lists are separated by commas or are TOML arrays.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pandawn_server.catalog.factory import parse_catalog_url
from pandawn_server.domain.access.sessions import MAX_SESSION_LIFE
from pandawn_server.listeners import Listener, parse_listener
from pandawn_server.logs import LogFormat, LogLevel
from pandawn_server.retention_config import RetentionSettings

ENV_PREFIX = "PANDAWN_"
CONFIG_VARIABLE = "PANDAWN_CONFIG"
"""Environment variable that names the configuration file."""

STANDARD_OTLP_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""OpenTelemetry's environment variable, which turns telemetry on like `otlp_endpoint`."""

DEFAULT_LISTEN = "127.0.0.1:25443"

_DATABASE_SCHEMES = ("sqlite:///", "postgresql+psycopg://")
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):([^/]*)@")
_QUERY_PASSWORD = re.compile(r"(?<=[?&])((?:ssl)?password)=[^&]*")

Origin = Literal["flag", "environment", "file", "default"]
"""Where a setting got its value."""

Network = IPv4Network | IPv6Network

FlagValue = str | int | float | Sequence[str]
"""Value of a setting given on the command line."""


def _default_data_dir() -> Path:
    """The user's data directory by the XDG rules; also works for a service account without a home."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base else Path("~/.local/share").expanduser()) / "pandawn"


class Settings(RetentionSettings):
    """All settings. Units are in the names; `check-config` shows the descriptions."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
    )

    data_dir: Path = Field(
        default_factory=_default_data_dir, description="directory of the embedded database"
    )
    database: str = Field(
        default="",
        description="sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME; "
        "default: pandawn.db in data_dir",
    )
    database_pool_size: int = Field(
        default=8,
        ge=2,
        le=200,
        description="connections to the database, and threads that use them",
    )
    catalog: str = Field(
        default="memory:",
        description="memory: or memcached://HOST:PORT,HOST:PORT..., with options after a ?",
    )
    listen: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(DEFAULT_LISTEN,),
        min_length=1,
        description="addresses to listen on, HOST:PORT or unix:PATH, with options after a ?: "
        "auth=x509+token+host, tls=on|proxy, proxies=accept, forwarded=on, mode=0660; port 0 chooses a free one",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="networks (CIDR) of the proxies that may name their clients, where a listen "
        "entry has forwarded=on",
    )
    forwarded_header: str = Field(
        default="x-forwarded-for",
        pattern=r"^[a-z0-9_-]{1,64}$",
        description="header in which they name them: addresses separated by commas, the nearest last",
    )
    reflection: Literal["operators", "anybody"] = Field(
        default="operators", description="who may read the contracts by gRPC's reflection"
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="certificate of the server with its chain, in PEM; read again when it changes",
    )
    tls_key: Path | None = Field(
        default=None, description="its key, in PEM; read again when it changes"
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="authorities of clients' certificates: a file, or a directory like "
        "/etc/grid-security/certificates",
    )
    tls_revocations: Path | None = Field(
        default=None,
        description="revocation lists: a file, or a directory with .r0 and .crl files",
    )
    admission_file: Path | None = Field(
        default=None,
        description="rules that admit certificates and tokens, and the token issuers; read again "
        "when it changes (docs/identity.md)",
    )
    reuse_port: bool = Field(
        default=False, description="let other server processes on this machine share the port"
    )
    max_connections: int = Field(
        default=20_000,
        ge=1,
        description="network connections that each address of listen accepts; fewer if the limit of "
        "open files is low",
    )
    max_connections_per_address: int = Field(
        default=4000,
        ge=1,
        description="connections of one client address; all pilots behind a router have the same address",
    )
    max_strangers_per_address: int = Field(
        default=100,
        ge=1,
        description="connections of one client address that have shown no credential yet",
    )
    stranger_seconds: float = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="time after which a connection without a credential is closed",
    )
    max_streams_per_connection: int = Field(
        default=100, ge=1, description="concurrent calls on one connection"
    )
    session_life_seconds: float = Field(
        default=3600.0,
        ge=1,
        le=MAX_SESSION_LIFE / timedelta(seconds=1),
        description="lifetime of a pilot's session token; it is renewed in time",
    )
    session_longest_seconds: float = Field(
        default=7 * 86400.0,
        ge=1,
        description="longest time for which a pilot's session is renewed; after that the pilot shows its "
        "credential again",
    )
    grace_seconds: float = Field(
        default=30.0, ge=0, le=3600, description="time for calls in flight when the server stops"
    )
    start_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        description="how long a starting server waits for a database that does not answer",
    )
    max_connection_age_seconds: float = Field(
        default=1800.0,
        ge=1,
        description="age at which clients must reconnect, so that replicas share the load",
    )
    reaper_interval_seconds: float = Field(
        default=2.0, gt=0, le=3600, description="interval between searches for expired leases"
    )
    pin_silence_days: float = Field(
        default=30.0,
        gt=0,
        le=36500,
        description="age of a node's last contact from which its pinned files no longer count",
    )
    log_level: LogLevel = Field(default="info", description="lowest level to log")
    log_format: LogFormat = Field(
        default="auto", description="json, console, or auto: console on a terminal"
    )
    otlp_endpoint: str = Field(
        default="",
        description="http(s)://HOST:PORT of an OTLP/gRPC collector; empty: no telemetry",
    )

    @property
    def database_url(self) -> str:
        """URL of the database, with the default filled in."""
        return self.database or f"sqlite:///{self.data_dir.absolute() / 'pandawn.db'}"

    @property
    def session_life(self) -> timedelta:
        """See `session_life_seconds`."""
        return timedelta(seconds=self.session_life_seconds)

    @property
    def session_longest(self) -> timedelta:
        """See `session_longest_seconds`."""
        return timedelta(seconds=self.session_longest_seconds)

    @property
    def reaper_interval(self) -> timedelta:
        """See `reaper_interval_seconds`."""
        return timedelta(seconds=self.reaper_interval_seconds)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """See `listen`."""
        return tuple(map(parse_listener, self.listen))

    @property
    def proxy_networks(self) -> tuple[Network, ...]:
        """See `trusted_proxies`."""
        return tuple(map(ip_network, self.trusted_proxies))

    @field_validator("listen", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            parse_listener(address)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @model_validator(mode="after")
    def _proxies_are_declared(self) -> Settings:
        # Only callers that the file mode admits can reach a socket file.
        believing = [x.address for x in self.listeners if x.is_forwarded and not x.socket_path]
        if believing and not self.trusted_proxies:
            raise ValueError(
                f"listen: {believing[0]} has forwarded=on; name the proxies in trusted_proxies"
            )
        return self

    @field_validator("database")
    @classmethod
    def _is_database(cls, value: str) -> str:
        # SQLAlchemy takes the driver from the URL, and would use another one by default.
        value = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", value)
        if value and not value.startswith(_DATABASE_SCHEMES):
            raise ValueError(
                f"{masked(value)!r} is not sqlite:///PATH or postgresql+psycopg://USER@HOST/NAME"
            )
        return value

    @field_validator("catalog")
    @classmethod
    def _is_catalog(cls, value: str) -> str:
        try:
            parse_catalog_url(value)
        except ValueError as error:
            raise ValueError(masked(str(error))) from error
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        if value and not re.match(r"https?://[^/]", value):
            raise ValueError(f"{masked(value)!r} is not http://HOST:PORT or https://HOST:PORT")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the values that `load_settings` passes: it reads each source itself, to know the origins."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with the origin of each value; `file` is None if there is none."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None


class ConfigError(Exception):
    """The configuration cannot be used; the text names the value, its origin and the problem."""


def load_settings(flags: Mapping[str, FlagValue], file: Path | None = None) -> Loaded:
    """Merges the sources. `flags` holds the values from the command line, by name of the setting.

    `file` overrides `PANDAWN_CONFIG`. Raises `ConfigError` with all problems.
    """
    if file is None and os.environ.get(CONFIG_VARIABLE):
        file = Path(os.environ[CONFIG_VARIABLE])
    values: dict[str, object] = {}
    origins: dict[str, Origin] = dict.fromkeys(Settings.model_fields, "default")
    sources: tuple[tuple[Origin, Mapping[str, object]], ...] = (
        ("file", {} if file is None else _read(file)),
        ("environment", _environment()),
        ("flag", flags),
    )
    for origin, source in sources:
        values.update(source)
        origins.update(dict.fromkeys(source, origin))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_described(error, origins, file)) from None
    return Loaded(settings, origins, file)


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return ENV_PREFIX + name.upper()


def masked(url: str) -> str:
    """A URL without its passwords, for display."""
    return _QUERY_PASSWORD.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", url))


def _environment() -> dict[str, object]:
    found = dict(EnvSettingsSource(Settings)())
    if os.environ.get(STANDARD_OTLP_VARIABLE):
        found.setdefault("otlp_endpoint", os.environ[STANDARD_OTLP_VARIABLE])
    return found


def _read(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {file} is not TOML: {error}") from None


def _described(error: ValidationError, origins: Mapping[str, Origin], file: Path | None) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        # A rule about several settings has no location: its text names them.
        name = str(problem["loc"][0]) if problem["loc"] else ""
        where = {
            "flag": f"--{name.replace('_', '-')}",
            "environment": variable_of(name),
            "file": f"{name} in {file}",
            "default": name,
        }[origins.get(name, "default")]
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: there is no such setting")
        else:
            prefix = f"{where}: " if name else ""
            lines.append(prefix + problem["msg"].removeprefix("Value error, "))
    return "\n".join(lines)
