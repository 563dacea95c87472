"""The directory of a demo, and its physics files."""

import importlib.util
import os
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pandawn_tools.cli.errors import usage_error

# The available data: the same collisions in six compressions, and the same simulated events in six.
# The twelve files differ in every byte, and the analysis counts each pair once.
COMPRESSIONS = ("", "-lz4", "-lzma", "-uncompressed", "-zlib", "-zstd")
FILE_NAMES = tuple(
    f"uproot-{sample}{compression}.root"
    for sample in ("Zmumu", "HZZ")
    for compression in COMPRESSIONS
)
_DATA_PACKAGE = "skhep_testdata"
_NEEDED = (_DATA_PACKAGE, "uproot", "awkward", "numpy", "matplotlib", "pandawn_server")


@dataclass(frozen=True, slots=True)
class Place:
    """The directory of a demo. `run_id` distinguishes this run from others on the same database."""

    root: Path
    run_id: str

    @property
    def storage(self) -> Path:
        """The shared file system of the site."""
        return self.root / "storage"

    @property
    def data(self) -> Path:
        """The input files."""
        return self.storage / "data"

    @property
    def logs(self) -> Path:
        """The logs of server and pilots."""
        return self.root / "logs" / self.run_id

    @property
    def picture(self) -> Path:
        """The picture of the result."""
        return self.root / "zpeak.png"

    @property
    def completions(self) -> Path:
        """A file with one line for each payload that succeeded, written with `--chaos`."""
        return self.root / f"completions-{self.run_id}"

    def node(self, name: str) -> Path:
        """The local disk of a node; it starts empty in each run."""
        return self.root / "nodes" / self.run_id / name


def analysis_dir() -> Path:
    """Returns the directory with the user's code."""
    return Path(__file__).parent / "analysis"


def check_packages() -> None:
    """Raises `CliError` if a package of the `[demo]` extra is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise usage_error(
            "DEMO_NOT_INSTALLED",
            "the demo needs packages that are not installed",
            details=missing,
            remedies=["install them: pip install 'pandawn[demo]'"],
        )


def prepare(directory: Path | None) -> Place:
    """Creates the directory and fills its storage.

    A directory of an earlier run can be used again: it keeps its storage, but node caches start empty.

    Raises:
        CliError: The directory cannot be created or written.
    """
    try:
        if directory is None:
            root = Path(tempfile.mkdtemp(prefix="pandawn-demo-"))
        else:
            root = Path(os.path.abspath(directory.expanduser()))  # noqa: PTH100
        place = Place(root, secrets.token_hex(3))
        for needed in (place.data, place.logs):
            needed.mkdir(parents=True, exist_ok=True)
        source = _source_dir()
        for name in FILE_NAMES:
            if not (place.data / name).exists():
                shutil.copyfile(source / name, place.data / name)
    except OSError as error:
        raise usage_error(
            "DIRECTORY_UNUSABLE",
            f"the demo cannot write to {error.filename or directory}",
            details=[error.strerror or str(error)],
            remedies=["use a directory that you can write to: pandawn demo --dir DIR"],
        ) from error
    return place


def input_paths(place: Place) -> Sequence[Path]:
    """Returns the input files, in order."""
    return [place.data / name for name in FILE_NAMES]


def _source_dir() -> Path:
    # Not imported, because its import looks for tools to fetch files that it does not contain.
    spec = importlib.util.find_spec(_DATA_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(2, "the package is not installed", _DATA_PACKAGE)
    return Path(spec.origin).parent / "data"
