"""Starts the throw-away PostgreSQL and memcached that the tests use, for trying things by hand.

Run at the root of the repository, by `make services`. Prints the addresses as options for
`pandawn-server` and `pandawn demo`; ends both servers, and their data, on Ctrl-C or SIGTERM.
"""

import argparse
import signal
import sys
from contextlib import suppress

from tests.fixtures.memcached import find_memcached, pool_url, running_memcached
from tests.fixtures.postgres import find_programs, running_postgres


def main() -> int:
    """Start the servers, wait for the signal, and return the exit status."""
    parser = argparse.ArgumentParser(description="Start throw-away servers for a try by hand.")
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
