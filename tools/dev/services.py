"""Starts the throw-away PostgreSQL and memcached of the tests, for experiments by hand.

`make services` runs it at the root of the repository. It prints the addresses as options for `pandawn-server`
and `pandawn demo`; at Ctrl-C or SIGTERM it stops both servers and deletes their data.
"""

import argparse
import signal
import sys
from contextlib import suppress

from tests.fixtures.memcached import find_memcached, pool_url, running_memcached
from tests.fixtures.postgres import find_programs, running_postgres


def main() -> int:
    """Start the servers, wait for the signal, and return the exit status."""
    parser = argparse.ArgumentParser(description="Start throw-away servers for experiments.")
    parser.add_argument("--memcached", type=int, default=1, metavar="N", help="size of the pool")
    options = parser.parse_args()
    if not (find_programs() and find_memcached()):
        print("PostgreSQL or memcached is missing; `make test` says what to do", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        running_postgres() as postgres,
        running_memcached() as pool,
    ):
        database = postgres.create_database()
        catalog = pool_url(pool.start_pool(options.memcached))
        print(f"--database {database} --catalog {catalog}", flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
