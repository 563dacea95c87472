"""Registers the fixture plugins; fixtures themselves live in tests/fixtures, one topic a module."""

pytest_plugins = [
    "tests.fixtures.catalog",
    "tests.fixtures.memcached",
    "tests.fixtures.postgres",
    "tests.fixtures.server",
]
