"""The fixtures for PostgreSQL and memcached keep what they promise to other tests."""

import socket
from contextlib import closing

import psycopg
import pytest
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError

from tests.fixtures.memcached import MemcachedFactory, MemcachedServer, pool_url
from tests.fixtures.ports import free_port
from tests.fixtures.postgres import PostgresServer


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def test_ports_are_free_and_never_given_twice() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports[0]))


@pytest.mark.parametrize("_", [1, 2])
def test_each_test_has_an_empty_database(postgres_url: str, _: int) -> None:
    with connect(postgres_url) as connection:
        connection.execute("CREATE TABLE only_mine (n integer)")


def test_a_template_is_filled_once_and_copied(postgres_server: PostgresServer) -> None:
    left_open = []

    def fill(url: str) -> None:
        # As a migration tool does that keeps its pool.
        left_open.append(connect(url))
        left_open[-1].execute("CREATE TABLE migrated (n integer)")

    for _ in range(2):
        postgres_server.prepare_template("fixtures", fill)
    for url in [postgres_server.create_database(template="fixtures") for _ in range(2)]:
        with connect(url) as connection:
            connection.execute("INSERT INTO migrated VALUES (1)")
            assert connection.execute("SELECT count(*) FROM migrated").fetchone() == (1,)
        postgres_server.drop_database(url)
    (connection,) = left_open
    connection.close()


def test_what_is_committed_outlives_a_stop_and_a_crash(
    own_postgres_server: PostgresServer,
) -> None:
    server = own_postgres_server
    url = server.create_database()
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        connect(url)
    server.start()
    server.kill()
    server.start()
    with connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize("_", [1, 2])
def test_each_test_has_an_empty_memcached(memcached: MemcachedServer, _: int) -> None:
    with closing(Client(("127.0.0.1", memcached.port))) as client:
        assert client.get("key") is None
        # With an answer: else it might come after the next test's flush.
        client.set("key", b"value", noreply=False)


def test_a_memcached_keeps_its_address_and_loses_its_entries_at_a_restart(
    memcached_factory: MemcachedFactory,
) -> None:
    first, second = memcached_factory.start_pool(2)
    assert pool_url([first, second]) == f"memcached://{first.address},{second.address}"
    client = Client(("127.0.0.1", first.port))
    client.set("key", b"value")
    first.stop()
    with pytest.raises((OSError, MemcacheError)):
        client.get("key")
    first.start()
    assert client.get("key") is None
    client.close()


def test_a_frozen_memcached_accepts_and_does_not_answer(
    memcached_factory: MemcachedFactory,
) -> None:
    server = memcached_factory.start()
    client = Client(("127.0.0.1", server.port), timeout=0.2)
    server.freeze()
    with pytest.raises(TimeoutError):
        client.get("key")
    server.thaw()
    assert client.get("key") is None
    client.close()
