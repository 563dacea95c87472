"""Puts the stubs and the contracts into the wheel; an installation for developers finds them where they lie."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface[Any]):
    """See hatchling: `force-include` would copy them into developers' environments, to grow old there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Names what is not below this directory."""
        if version != "editable":
            # The contracts beside their stubs, for clients in other languages.
            for source in ("../generated/pandawn", "../proto/pandawn"):
                build_data["force_include"][source] = "pandawn"
