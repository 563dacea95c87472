"""The throw-away PostgreSQL and memcached of a benchmark, and the servers under test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg import sql

from pandawn_tools.bench.processes import (
    LOOPBACK,
    BenchError,
    ServerProcess,
    can_connect,
    free_port,
)

POSTGRES_SETTINGS = {
    # As in production, each commit is on disk before it is acknowledged.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "max_wal_size": "8GB",
    "shared_buffers": "2GB",
    "unix_socket_directories": "",
}

MEMCACHED_MIB = 2048

_DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
_ADMIN = "pandawn"


class Postgres:
    """One PostgreSQL with its own data directory."""

    def __init__(self, directory: Path) -> None:
        """Makes a cluster and starts it. Raises `BenchError`."""
        programs = _postgres_programs()
        self.port = free_port()
        self.password = secrets.token_hex(8)
        data = directory / "data"
        _initdb(programs, directory, data, self.password)
        settings = [f"--{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
        self.process = ServerProcess(
            [programs / "postgres", "-D", data, "-p", str(self.port), *settings],
            directory / "postgres.log",
            self._answers,
            user="postgres",
            # Disconnects clients at once; SIGTERM would wait for them.
            stop_signal=signal.SIGINT,
        )

    def url(self, name: str) -> str:
        """URL of a database for the server under test."""
        return f"postgresql+psycopg://{_ADMIN}:{self.password}@{LOOPBACK}:{self.port}/{name}"

    def dsn(self, name: str) -> str:
        """The same for clients that use libpq's URLs."""
        return self.url(name).replace("+psycopg", "")

    def create(self, name: str) -> None:
        """Makes an empty database."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as link:
            link.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


def _postgres_programs() -> Path:
    found = sorted(_DEBIAN_PROGRAMS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        raise BenchError("PostgreSQL is not installed; on Debian: apt-get install postgresql")
    return Path(initdb).resolve().parent


def _initdb(programs: Path, directory: Path, data: Path, password: str) -> None:
    secret = directory / "password"
    secret.write_text(password)
    user = None
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root.
        user = "postgres"
        for path in (directory, secret):
            shutil.chown(path, user, user)
    done = subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={data}",
            f"--username={_ADMIN}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            # Only for the empty cluster: the server itself syncs its writes.
            "--no-sync",
        ],
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"initdb failed:\n{done.stdout}{done.stderr}")


class Memcached:
    """One memcached."""

    def __init__(self, directory: Path) -> None:
        """Starts it. Raises `BenchError`."""
        program = shutil.which("memcached", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")
        if program is None:
            raise BenchError("memcached is not installed; on Debian: apt-get install memcached")
        self.port = free_port()
        self.process = ServerProcess(
            [
                *(program, f"--listen={LOOPBACK}", f"--port={self.port}", "--udp-port=0"),
                *(f"--memory-limit={MEMCACHED_MIB}", "--user=nobody"),
            ],
            directory / "memcached.log",
            lambda: can_connect(self.port),
        )

    @property
    def url(self) -> str:
        """The server as a catalog URL."""
        return f"memcached://{LOOPBACK}:{self.port}"


class PandawnServer:
    """One server under test, with the limit handler beside its services."""

    def __init__(self, directory: Path, database: str, catalog: str) -> None:
        """Starts it. Raises `BenchError`."""
        self.port = free_port()
        self.process = ServerProcess(
            [
                *(sys.executable, "-m", "pandawn_tools.bench.server"),
                *(f"--data-dir={directory}", f"--listen={self.address}"),
                # A few connections of the load generator represent those of thousands of pilots.
                "--max-streams-per-connection=1000000",
                *(f"--database={database}", f"--catalog={catalog}"),
                *("--log-level=warning", "--log-format=json", "--max-connection-age-seconds=86400"),
            ],
            directory / f"server-{self.port}.log",
            lambda: can_connect(self.port),
        )

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{LOOPBACK}:{self.port}"
