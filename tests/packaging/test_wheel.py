"""What a worker node gets: a wheel that needs grpcio and protobuf alone, from the floors up."""

import re
import shutil
import tomllib
import zipfile
from email.parser import Parser
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc
from packaging.requirements import Requirement

from tests.packaging.conftest import ROOT, Environment, build

# Brought in by grpcio itself.
WORKER_NODE_PACKAGES = {"grpcio", "pandawn-pilot", "protobuf", "typing-extensions"}

IMPORT_EVERYTHING = """
import importlib, pkgutil
import pandawn, pandawn_client, pandawn_pilot, pandawn_transports
for top in (pandawn, pandawn_client, pandawn_pilot, pandawn_transports):
    for module in pkgutil.walk_packages(top.__path__, top.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""


def floors() -> dict[str, str]:
    """Return the lowest versions that pyproject.toml allows a worker node."""
    project = tomllib.loads((ROOT / "pilot_client" / "pyproject.toml").read_text())["project"]
    return {
        requirement.name: bound.version
        for requirement in map(Requirement, project["dependencies"])
        for bound in requirement.specifier
        if bound.operator == ">="
    }


def versions_in_stubs(pattern: str, files: str) -> set[str]:
    """Return every version that the committed stubs of a kind name."""
    texts = [path.read_text() for path in (ROOT / "generated").rglob(files)]
    return {found for text in texts for found in re.findall(pattern, text)}


def test_a_bare_install_imports_the_pilot_and_all_stubs(
    pilot_wheel: Path, environment: Environment
) -> None:
    environment.install("--constraint", "requirements.lock", pilot_wheel)
    assert set(environment.versions()) == WORKER_NODE_PACKAGES
    imported = environment.run_code(IMPORT_EVERYTHING).split()
    assert "pandawn.dispatcher.v1.dispatcher_pb2_grpc" in imported


def test_the_oldest_allowed_packages_suffice(pilot_wheel: Path, environment: Environment) -> None:
    environment.install("--resolution", "lowest", pilot_wheel)
    assert environment.versions().items() >= floors().items()
    environment.run_code(IMPORT_EVERYTHING)


def test_the_floors_are_the_versions_the_stubs_were_generated_for() -> None:
    lowest = floors()
    grpcio = versions_in_stubs(r"GRPC_GENERATED_VERSION = '(.+)'", "*_pb2_grpc.py")
    assert grpcio == {lowest["grpcio"]}
    protobuf = versions_in_stubs(r"# Protobuf Python Version: (.+)", "*_pb2.py")
    assert protobuf == {lowest["protobuf"]}


def test_the_metadata_asks_for_two_packages_without_extras(pilot_wheel: Path) -> None:
    with zipfile.ZipFile(pilot_wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    requirements = map(Requirement, metadata.get_all("Requires-Dist", []))
    assert {found.name for found in requirements if found.marker is None} == {"grpcio", "protobuf"}


NODES = {"pandawn", "pandawn_client", "pandawn_pilot", "pandawn_transports"}
SERVER_AND_TOOLS = {"pandawn_server", "pandawn_tools"}


def test_the_wheels_hold_the_packages_with_their_types_and_share_no_file(
    wheel: Path, pilot_wheel: Path
) -> None:
    held: list[set[str]] = []
    for path, packages in ((pilot_wheel, NODES), (wheel, SERVER_AND_TOOLS)):
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        tops = {name.partition("/")[0] for name in names}
        assert {top for top in tops if not top.endswith(".dist-info")} == packages
        assert {f"{package}/py.typed" for package in packages} <= names
        held.append(names)
    assert held[0].isdisjoint(held[1])


def test_a_wheel_built_from_the_sdist_holds_the_same_files(
    pilot_wheel: Path, tmp_path: Path
) -> None:
    sdist = build(ROOT / "pilot_client", tmp_path / "sdist", "sdist")
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    # Without the rest of the repository around it, as pip does where there is no wheel.
    rebuilt = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "wheel")
    held = []
    for path in (rebuilt, pilot_wheel):
        with zipfile.ZipFile(path) as archive:
            held.append(sorted(archive.namelist()))
    assert held[0] == held[1]


def test_both_distributions_are_of_one_release() -> None:
    main, node = (
        tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"]
        for place in ("", "pilot_client")
    )
    assert main["version"] == node["version"]
    assert main["dependencies"] == [f"pandawn-pilot=={node['version']}"]


def test_the_wheel_holds_the_contracts_for_clients_in_other_languages(
    pilot_wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(pilot_wheel) as archive:
        archive.extractall(tmp_path)
    shipped = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.proto")}
    contracts = ROOT / "proto"
    assert shipped == {
        path.relative_to(contracts): path.read_text() for path in contracts.rglob("*.proto")
    }
    # The directory that the wheel is installed in is all that protoc needs.
    well_known = files("grpc_tools") / "_proto"
    made = tmp_path / "made"
    arguments = ["", f"-I{tmp_path}", f"-I{well_known}", f"--descriptor_set_out={made}"]
    assert protoc.main([*arguments, *map(str, shipped)]) == 0
    assert made.stat().st_size > 0
