"""What every servicer is made of: one frozen object, filled by `main`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pandawn_server.config import Settings
from pandawn_server.telemetry.api import Telemetry
from pandawn_server.usecases.context import Context
from pandawn_server.wire.auth.resolver import Resolver
from pandawn_server.wire.dispatch.polls import Polls
from pandawn_server.wire.edge.batcher import Batchers
from pandawn_server.wire.edge.runner import Runner
from pandawn_server.wire.queues.watch import ConfigWatch


@dataclass(frozen=True, slots=True)
class Deps:
    """Handed to each servicer.

    `shutting_down` is set when the server begins to stop: long polls and event streams end then.
    Batchers are to be made by `batchers`, which closes them in the end.
    """

    context: Context
    settings: Settings
    runner: Runner
    batchers: Batchers
    polls: Polls
    config_watch: ConfigWatch
    shutting_down: asyncio.Event
    telemetry: Telemetry
    resolver: Resolver
