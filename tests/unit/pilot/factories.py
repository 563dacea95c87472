"""Values that tests of the pilot start from."""

from __future__ import annotations

import io
import logging

from pandawn_pilot.catalog.inventory import CachedFile
from pandawn_pilot.logs import Log, make_log


def make_file(
    name: str = "f1",
    size: int = 10,
    *,
    scope: str = "",
    guid: str = "",
    checksum: str = "",
    version: str = "",
) -> CachedFile:
    return CachedFile(name, size, scope, guid, checksum, version)


def make_test_log() -> Log:
    return make_log(as_json=False, node="wn01", stream=io.StringIO(), level=logging.DEBUG)
