"""Adds the stubs and the contracts to wheel and sdist; an editable install uses them in the source tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface[Any]):
    """See hatchling: `force-include` would also copy them into editable installs, where they become stale."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the directories outside of this one; in an unpacked sdist they are inside."""
        if version != "editable":
            is_sdist = Path(self.root, "PKG-INFO").exists()
            # The contracts beside their stubs, for clients in other languages.
            outside = ("../generated/pandawn", "../proto/pandawn")
            for source in ("pandawn",) if is_sdist else outside:
                build_data["force_include"][source] = "pandawn"
