"""Generates the Python stubs in `generated/` from the contracts in `proto/`, or compares them.

    generate_stubs.py           write generated/
    generate_stubs.py --check   generate elsewhere, print the differences, exit 1 if there are any

The protoc inside grpcio-tools does the work, pinned to the oldest supported release: generated code
refuses a runtime older than its generator, so a newer generator would force newer packages on every
worker node.
"""

import argparse
import difflib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
GENERATED = ROOT / "generated"

# The environment's own protoc-gen-mypy, so that the result does not depend on PATH.
_PLUGINS = Path(sys.executable).parent

_TOP_DOCSTRING = '"""Stubs generated from proto/; never edited. `make stubs` writes them."""\n'
_DOCSTRING = '"""Generated stubs."""\n'


class StubError(Exception):
    """The stubs cannot be generated; the text says why."""


def generate(proto: Path, target: Path) -> None:
    """Fill the empty directory `target` with packages for every contract under `proto`.

    Raises `StubError` if there is no contract, or protoc rejects one (its message is on stderr).
    """
    contracts = sorted(proto.rglob("*.proto"))
    if not contracts:
        raise StubError(f"no .proto file under {proto}")
    well_known = files("grpc_tools") / "_proto"
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={proto}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={_PLUGINS / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={_PLUGINS / 'protoc-gen-mypy_grpc'}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            # Copies the comments of the contract to the stubs, where editors show them.
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *map(str, contracts),
        ]
    )
    if status:
        raise StubError("protoc failed")
    _drop_empty_service_modules(target)
    _make_packages(target)


def _drop_empty_service_modules(target: Path) -> None:
    # protoc writes a *_pb2_grpc.py even for a contract without a service: an empty module only
    # misleads.
    for module in target.rglob("*_pb2_grpc.py"):
        if "Servicer" not in module.read_text():
            module.unlink()
            module.with_suffix(".pyi").unlink(missing_ok=True)


def _make_packages(target: Path) -> None:
    # Regular packages: a namespace package could be shadowed by any other distribution.
    for directory in sorted({path.parent for path in target.rglob("*_pb2.py")}):
        for package in (directory, *directory.parents):
            if package == target:
                break
            top = package.parent == target
            (package / "__init__.py").write_text(_TOP_DOCSTRING if top else _DOCSTRING)
            if top:
                (package / "py.typed").touch()


def differences(committed: Path, fresh: Path) -> Iterator[str]:
    """Yield lines that describe how the directory `committed` differs from `fresh`."""
    names = {path.relative_to(tree) for tree in (committed, fresh) for path in _stub_files(tree)}
    for name in sorted(names):
        old, new = committed / name, fresh / name
        before = old.read_text().splitlines(keepends=True) if old.exists() else []
        after = new.read_text().splitlines(keepends=True) if new.exists() else []
        if old.exists() != new.exists():
            yield f"{name}: {'not generated any more' if old.exists() else 'missing'}\n"
        elif before != after:
            yield from difflib.unified_diff(
                before, after, f"generated/{name}", f"fresh/{name}", n=1
            )


def _stub_files(tree: Path) -> Iterator[Path]:
    for path in tree.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def main() -> int:
    """Write or check the stubs and return the exit status."""
    parser = argparse.ArgumentParser(description="Generate the Python stubs from proto/.")
    parser.add_argument(
        "--check", action="store_true", help="compare with generated/ instead of writing"
    )
    parser.add_argument("--proto", type=Path, default=PROTO, help="root of the contracts")
    parser.add_argument("--out", type=Path, default=GENERATED, help="where the stubs are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pandawn-stubs-") as scratch:
        fresh = Path(scratch)
        try:
            generate(options.proto, fresh)
        except StubError as error:
            print(f"stubs: {error}", file=sys.stderr)
            return 1
        if options.check:
            changed = list(differences(options.out, fresh))
            sys.stderr.writelines(changed[:200])
            if changed:
                print("stubs: generated/ does not match proto/; run `make stubs`", file=sys.stderr)
            return 1 if changed else 0
        # Only after success, so that a broken contract keeps the old stubs.
        _replace(options.out, fresh)
    return 0


def _replace(out: Path, fresh: Path) -> None:
    for old in list(_stub_files(out)) if out.exists() else []:
        if not (fresh / old.relative_to(out)).exists():
            old.unlink()
    # Unchanged files are not written, so that caches can trust file times.
    for new in _stub_files(fresh):
        old = out / new.relative_to(fresh)
        if not old.exists() or old.read_bytes() != new.read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(new, old)


if __name__ == "__main__":
    sys.exit(main())
