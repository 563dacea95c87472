"""What to do after the database was restored from an older copy."""

from __future__ import annotations

import random
from datetime import datetime

from pandawn_server.storage.database import Database
from pandawn_server.storage.identifiers import skip_identifiers
from pandawn_server.usecases.access.sessions import rotate_key


def pass_over_lost_numbers(
    db: Database, rng: random.Random, now: datetime, *, count: int
) -> dict[str, int]:
    """Skips `count` numbers of each kind, so that none given since the copy was made is given again.

    Outputs carry the number of their task: a second task with that number would replace the outputs of the first.
    Pilots learn from the end of their sessions that the server has changed. Returns the last skipped number, by
    kind.
    """
    with db.write() as tx:
        last = skip_identifiers(tx, count)
    rotate_key(db, rng, now, end_sessions=True)
    return last
