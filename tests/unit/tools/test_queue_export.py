"""Exports into files that people have written: values change, all else stays."""

import os
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.queuefiles.document import QUEUE, SITE, Key
from pandawn_tools.queuefiles.export import Exported, export

Q = Key(QUEUE, "Q")
GIB = 1024**3


def make_queue(**values: object) -> parameters_pb2.QueueParameters:
    return parameters_pb2.QueueParameters(**values)  # type: ignore[arg-type]


def export_over(
    root: Path, text: str, queue: parameters_pb2.QueueParameters, *, prune: bool = False
) -> Exported:
    path = root / "queues" / "Q.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return export(root, {Q: queue}, prune=prune)


def text_of(root: Path) -> str:
    return (root / "queues" / "Q.yaml").read_bytes().decode()


def test_a_new_file_is_in_the_order_of_the_groups_with_human_units(tmp_path: Path) -> None:
    queue = make_queue(
        locality_wait=Duration(seconds=90),
        max_input_bytes=14336 * 1024**2,
        site="S",
        lease_duration=Duration(seconds=600),
        status=parameters_pb2.QUEUE_STATUS_TEST,
        environment=parameters_pb2.StringMap(values={"B": "no", "A": "x y"}),
        ddm_endpoints_in=parameters_pb2.StringList(
            values=[f"ENDPOINT_NUMBER_{n}" for n in range(6)]
        ),
        releases=parameters_pb2.StringList(),
    )
    done = export(tmp_path, {Q: queue, Key(SITE, "S"): make_queue(cloud="C")}, prune=False)
    assert len(done.created) == 2
    assert text_of(tmp_path) == (
        "queue: Q\n\n# status\nsite: S\nstatus: test\n\n"
        "# limits\nmax_input_bytes: 14 GiB\nlease_duration: 10 min\n\n"
        "# storage\nddm_endpoints_in:\n"
        + "".join(f"  - ENDPOINT_NUMBER_{n}\n" for n in range(6))
        + '\n# environment\nreleases: []\nenvironment: {A: x y, B: "no"}\n\n'
        "# brokerage\nlocality_wait: 90 s\n"
    )
    assert (tmp_path / "sites" / "S.yaml").read_text() == "site: S\n\n# status\ncloud: C\n"


WRITTEN = """\
# Ours. Ask Ann before you touch it.
queue: Q

status: online        # since March
cores: 8

# twice what they need
max_input_bytes: 14336 MiB   # not 14 GB!
ddm_endpoints_in:
  # near
  - NEAR  # the new one
  - FAR
comment: 'it''s ours'
"""
READ = {
    "status": parameters_pb2.QUEUE_STATUS_ONLINE,
    "cores": 8,
    "max_input_bytes": 14 * GIB,
    "ddm_endpoints_in": parameters_pb2.StringList(values=["NEAR", "FAR"]),
    "comment": "it's ours",
}


def test_a_file_that_says_the_same_is_not_touched(tmp_path: Path) -> None:
    export_over(tmp_path, WRITTEN, make_queue(**READ))
    path = tmp_path / "queues" / "Q.yaml"
    os.utime(path, (1, 1))
    done = export(tmp_path, {Q: make_queue(**READ)}, prune=True)
    assert (done.same, done.changed, done.removed) == (1, [], [])
    assert path.stat().st_mtime == 1
    assert text_of(tmp_path) == WRITTEN


def test_only_the_values_that_differ_change(tmp_path: Path) -> None:
    queue = make_queue(**{**READ, "status": parameters_pb2.QUEUE_STATUS_OFFLINE, "site": "S"})
    queue.ddm_endpoints_in.values[:] = ["NEAR", "OTHER"]
    queue.ClearField("cores")
    done = export_over(tmp_path, WRITTEN, queue)
    assert len(done.changed) == 1
    assert text_of(tmp_path) == (
        "# Ours. Ask Ann before you touch it.\nqueue: Q\nsite: S\n\n"
        "status: offline        # since March\n\n"
        "# twice what they need\nmax_input_bytes: 14336 MiB   # not 14 GB!\n"
        "ddm_endpoints_in:\n  # near\n  - NEAR\n  - OTHER\ncomment: 'it''s ours'\n"
    )


def test_an_old_name_stays_until_its_value_changes(tmp_path: Path) -> None:
    text = "queue: Q\nmaxtime: 3600 # an hour\ncopytool: gfal # both ways\n"
    queue = make_queue(
        max_wall_time=Duration(seconds=3600),
        copy_tools_in=parameters_pb2.StringList(values=["gfal"]),
        copy_tools_out=parameters_pb2.StringList(values=["gfal"]),
    )
    assert export_over(tmp_path, text, queue).same == 1
    assert text_of(tmp_path) == text
    queue.copy_tools_in.values[:] = ["rucio"]
    export_over(tmp_path, text, queue)
    assert text_of(tmp_path) == (
        "queue: Q\nmaxtime: 3600 # an hour\ncopy_tools_in: [rucio]\ncopy_tools_out: [gfal]\n"
    )


def test_line_ends_and_a_byte_order_mark_stay_as_they_are(tmp_path: Path) -> None:
    export_over(tmp_path, "\ufeffqueue: Q\r\ncores: 8 # c\r\n", make_queue(cores=4, site="S"))
    assert text_of(tmp_path) == "\ufeffqueue: Q\r\nsite: S\r\ncores: 4 # c\r\n"


def test_a_last_line_without_an_end_gets_one_when_something_follows(tmp_path: Path) -> None:
    export_over(tmp_path, "queue: Q", make_queue(cores=4))
    assert text_of(tmp_path) == "queue: Q\ncores: 4\n"


def test_files_that_are_wrong_or_odd_are_left_and_named(tmp_path: Path) -> None:
    for text in ("queue: Q\ncores: x\n", "queue: [\n", "{queue: Q, cores: 8}\n", "queue: R\n"):
        done = export_over(tmp_path, text, make_queue(cores=4))
        assert text_of(tmp_path) == text
        assert [problem.file for problem in done.problems] == ["queues/Q.yaml"]
        assert done.changed == []


def test_files_of_queues_that_are_gone_are_removed_only_when_told(tmp_path: Path) -> None:
    export_over(tmp_path, WRITTEN, make_queue(**READ))
    gone = tmp_path / "queues" / "OLD.yaml"
    gone.write_text("queue: OLD\n")
    assert export(tmp_path, {Q: make_queue(**READ)}, prune=False).gone == [gone]
    assert gone.exists()
    assert export(tmp_path, {Q: make_queue(**READ)}, prune=True).removed == [gone]
    assert not gone.exists()


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("precious")
    folder = tmp_path / "tree" / "queues"
    folder.mkdir(parents=True)
    (folder / "Q.yaml").symlink_to(target)
    done = export(tmp_path / "tree", {Q: make_queue(cores=4)}, prune=False)
    assert target.read_text() == "precious"
    assert len(done.problems) == 1
