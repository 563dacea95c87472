"""Adds the stubs and the contracts to the wheel; an editable install uses them in the source tree."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface[Any]):
    """See hatchling: `force-include` would also copy them into editable installs, where they become stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the directories outside of this one."""
        if version != "editable":
            # The contracts beside their stubs, for clients in other languages.
            for source in ("../generated/pandawn", "../proto/pandawn"):
                build_data["force_include"][source] = "pandawn"
