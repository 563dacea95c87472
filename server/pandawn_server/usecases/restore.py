"""What is to be done when the database was put back to an older copy of itself."""

from __future__ import annotations

import random
from datetime import datetime

from pandawn_server.storage.database import Database
from pandawn_server.storage.identifiers import skip_identifiers
from pandawn_server.usecases.access.sessions import rotate_key


def pass_over_lost_numbers(
    db: Database, rng: random.Random, now: datetime, *, count: int
) -> dict[str, int]:
    """Gives no number again that was given since the copy was made, if they were at most `count` of a kind.

    Outputs carry the number of their task: a second one of that number would replace what the first has
    stored. Pilots learn by the end of their sessions that the server is not what they knew. Returns the last
    number passed over, by kind.
    """
    with db.write() as tx:
        last = skip_identifiers(tx, count)
    rotate_key(db, rng, now, end_sessions=True)
    return last
