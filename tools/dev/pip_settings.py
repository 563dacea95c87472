"""Prints pip's configuration as shell exports of the variables that uv understands.

It runs with any Python that has pip, before the project's own environment exists, so it uses the standard
library only. Variables that are already set are skipped, so that the environment wins over pip's files.
"""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

# pip's key -> (uv's variable, separator between several values)
_UV_VARIABLES = {
    "cert": ("SSL_CERT_FILE", None),
    "default-timeout": ("UV_HTTP_TIMEOUT", None),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "index-url": ("UV_DEFAULT_INDEX", None),
    "no-index": ("UV_NO_INDEX", None),
    "proxy": ("ALL_PROXY", None),
    "timeout": ("UV_HTTP_TIMEOUT", None),
    "trusted-host": ("UV_INSECURE_HOST", " "),
}

# Later sections override earlier ones, as in pip.
_SECTIONS = ("global", "install", ":env:")


def read_pip_settings() -> dict[str, str]:
    """Return pip's merged settings for downloads, by pip's own names."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in found and key in _UV_VARIABLES:
            found[section][key] = str(ast.literal_eval(value))
    return {key: value for section in _SECTIONS for key, value in found[section].items()}


def to_uv_variables(settings: dict[str, str]) -> dict[str, str]:
    """Translate pip's settings to environment variables of uv."""
    variables: dict[str, str] = {}
    for key, value in settings.items():
        variable, separator = _UV_VARIABLES[key]
        words = value.split()
        if key == "find-links":
            # pip ignores a missing directory; uv reports an error.
            words = [word for word in words if "://" in word or Path(word).is_dir()]
        if words:
            variables[variable] = (separator or " ").join(words)
    return variables


def main() -> None:
    """Print one `export` line for each variable."""
    for variable, value in to_uv_variables(read_pip_settings()).items():
        if variable not in os.environ:
            print(f"export {variable}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
