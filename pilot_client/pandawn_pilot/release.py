"""The version of this release."""

from __future__ import annotations

import argparse
import importlib.metadata


def version() -> str:
    """The version of the package, or `unknown` if it is not installed."""
    try:
        return importlib.metadata.version("pandawn-pilot")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Adds --version."""
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {version()}",
        help="print the version and exit",
    )
