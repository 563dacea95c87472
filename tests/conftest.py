"""Registers the fixture plugins; fixtures themselves live in tests/fixtures, one topic a module."""

pytest_plugins = [
    "tests.fixtures.passable",
    "tests.fixtures.xrootd",
    "tests.fixtures.memcached",
    "tests.fixtures.catalog",  # imports the one above, which must be registered by then
    "tests.fixtures.postgres",
    "tests.fixtures.database",  # imports the one above
    "tests.fixtures.pgbouncer",
    "tests.fixtures.properties",
    "tests.fixtures.server",  # imports those two
    "tests.fixtures.otlp",  # imports the one above
    "tests.fixtures.fake_broker",
    "tests.fixtures.fake_dispatcher",
    "tests.fixtures.command",
    "tests.fixtures.grpcurl",
    "tests.fixtures.netns",
    "tests.fixtures.pilots",
    "tests.fixtures.pcache",  # imports the one above
    "tests.fixtures.tier3",  # imports the two above
    "tests.fixtures.besieged",
    "tests.fixtures.machines",
    "tests.fixtures.world",
    "tests.fixtures.web",
    "tests.fixtures.callers",
    "tests.fixtures.certificates",
    "tests.fixtures.tokens",
    "tests.fixtures.secure",  # imports those above
]
