"""Opens the cache that the options name, and the loop that reports it to the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pandawn_pilot.cache.input_cache import InputCache
from pandawn_pilot.cache.node_cache import NodeCache
from pandawn_pilot.cache.room import default_limits
from pandawn_pilot.catalog.client import CatalogClient
from pandawn_pilot.catalog.loop import CatalogLoop
from pandawn_pilot.catalog.node_journal import NodeJournal, expect_more, has_more
from pandawn_pilot.catalog.reporter import CatalogReporter
from pandawn_pilot.logs import Log
from pandawn_pilot.options import PilotOptions
from pandawn_pilot.pcache.cache import SitePcache
from pandawn_pilot.pcache.command import PcacheCommand


@dataclass(frozen=True)
class OpenCache:
    """A cache and the loop that reports it; both None without a cache."""

    inputs: InputCache | None = None
    catalog: CatalogLoop | None = None


def open_cache(options: PilotOptions, client: CatalogClient, log: Log) -> OpenCache:
    """Opens the cache. If that fails, logs why and goes on without: jobs run all the same."""
    try:
        if options.pcache is not None:
            return _open_pcache(options, options.pcache, client, log)
        if options.cache_dir is not None:
            return _open_own(options, options.cache_dir, client, log)
    except OSError as error:
        log.warning("working without a cache, as it cannot be used: %s", error)
    return OpenCache()


def _open_pcache(
    options: PilotOptions, command: PcacheCommand, client: CatalogClient, log: Log
) -> OpenCache:
    pcache = SitePcache(command, log)
    if options.local_xrootd is not None:
        expect_more(pcache.books.place.books)
    pcache.refresh()
    reporter = CatalogReporter(pcache.books.reported(), client, log)
    return OpenCache(pcache, CatalogLoop(reporter, log, pcache.refresh))


def _open_own(options: PilotOptions, directory: Path, client: CatalogClient, log: Log) -> OpenCache:
    directory.mkdir(parents=True, exist_ok=True)
    limits = default_limits(directory, options.cache_bytes, options.cache_low_water)
    cache = NodeCache(directory, limits, log)
    cache.heal()
    # The hook reports the files of the node's XRootD server in the same inventory.
    if options.local_xrootd is not None:
        expect_more(directory)
    journal = NodeJournal(directory) if has_more(directory) else cache.journal
    reporter = CatalogReporter(journal, client, log)
    return OpenCache(cache, CatalogLoop(reporter, log, cache.look))
