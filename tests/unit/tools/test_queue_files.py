"""Files of queues: what is read, and what is said with file and line of what is wrong."""

import time
from pathlib import Path

import pytest

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.queuefiles.document import CLOUD, QUEUE, SITE, Key
from pandawn_tools.queuefiles.tree import Tree, TreeError, default_path, read_tree
from pandawn_tools.queuefiles.yamlparse import MAX_FILE_BYTES

MIB = 1024**2


def write(root: Path, file: str, text: str | bytes) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read_one(root: Path, text: str | bytes, file: str = "queues/Q.yaml") -> Tree:
    write(root, file, text)
    return read_tree(root)


def values(tree: Tree, key: Key | None = None) -> parameters_pb2.QueueParameters:
    assert tree.problems == []
    return tree.documents[key or Key(QUEUE, "Q")].values


def problems(root: Path, text: str | bytes) -> list[str]:
    return [str(problem) for problem in read_one(root, text).problems]


def test_values_of_every_kind_are_read_with_their_units(tmp_path: Path) -> None:
    queue = values(
        read_one(
            tmp_path,
            """
# of the night shift
queue: Q
site: NO            # Norway, not false
status: BrokerOff
max_input_bytes: 14336 MiB
max_work_dir_bytes: 40 GB
cores: 010
core_power: 11.25
max_wall_time: 4 d
lease_duration: 90 s
use_pcache: FALSE
copy_tools_in: [rucio, xrdcp]
ddm_endpoints_in:
  - A
  - B
environment: {X: "1", Y: no}
releases: []
comment: ""
""",
        )
    )
    assert queue.site == "NO"
    assert queue.status == parameters_pb2.QUEUE_STATUS_BROKEROFF
    assert queue.max_input_bytes == 14336 * MIB
    assert queue.max_work_dir_bytes == 40 * 10**9
    assert queue.cores == 10
    assert queue.core_power == 11.25
    assert queue.max_wall_time.seconds == 4 * 86400
    assert queue.lease_duration.seconds == 90
    assert queue.HasField("use_pcache")
    assert not queue.use_pcache
    assert list(queue.copy_tools_in.values) == ["rucio", "xrdcp"]
    assert list(queue.ddm_endpoints_in.values) == ["A", "B"]
    assert dict(queue.environment.values) == {"X": "1", "Y": "no"}
    assert queue.HasField("releases")
    assert queue.HasField("comment")
    assert not queue.HasField("cloud")


def test_sites_and_clouds_have_files_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "sites/S.yaml", "site: S\ncloud: C\ncores: 4\n")
    write(tmp_path, "clouds/C.yaml", "cloud: C\nlocality_wait: 30 s\n")
    tree = read_tree(tmp_path)
    assert values(tree, Key(SITE, "S")).cloud == "C"
    assert not values(tree, Key(SITE, "S")).HasField("site")
    assert values(tree, Key(CLOUD, "C")).locality_wait.seconds == 30


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cores: many", "cores: 'many' is not a whole number"),
        ("cores: 0", "cores: it is out of bounds; from 1 to 100,000"),
        ("cores:", "cores: it has no value; remove the line to leave it unset"),
        ("cores: [1]", "cores: it is a whole number, not a list or mapping"),
        ("corse: 1", "'corse' is not a parameter; did you mean cores?"),
        ("max_inputsize: 1", "'max_inputsize' is not a parameter; did you mean maxinputsize?"),
        ("status: onlin", "is none of online, offline, test, brokeroff, paused; did you mean onl"),
        ("max_input_bytes: 14336", "it has no unit; write 14336 MiB, or 14336 B for bytes"),
        ("max_input_bytes: 14 G", "G is ambiguous; write 14 GiB"),
        ("max_input_bytes: 14 gigs", "gigs is not a unit of size"),
        ("max_input_bytes: 0.1 B", "it is not a whole number of bytes"),
        ("max_input_bytes: -1 GiB", "it is out of bounds; from 0 to 1 EiB"),
        ("lease_duration: 1 s", "it is out of bounds; from 5 s to 1 d"),
        ("lease_duration: 10 m", "m is ambiguous; write 10 min"),
        ("lease_duration: 600", "it has no unit; write 600 s"),
        ("use_pcache: maybe", "'maybe' is neither true nor false"),
        ("releases: AUTO", "it is a list; write [AUTO]"),
        ("releases: [[a]]", "an element must be text"),
        ("environment: [A]", "it is a mapping; write {name: value}"),
        ("environment: {A: 1, A: 2}", "'A' occurs twice"),
        ('comment: "a\\nb"', "it has control characters"),
        ("comment: " + "x" * 4001, "it is 4,001 bytes; the limit is 4,000"),
        ("queue: R", "queue is already in line 1"),
        ("maxtime: -5", "maxtime (now max_wall_time): -5 is below zero"),
        ("a: !x 1", "tags (!name) are not taken here"),
        ("a: *b", "aliases (*name) are not taken here"),
        ("a: &b 1", "anchors (&name) are not taken here"),
        ("<<: {cores: 1}", "merge keys (<<) are not taken here"),
        ("a: {b: {c: {d: {}}}}", "it is nested more than 4 deep"),
        ("cores: {", "expected"),
        ("\tcores: 1", "cannot start any token"),
        ("---", "a second document begins"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    found = problems(tmp_path, f"queue: Q\n# comment\n{line}\n")
    assert len(found) == 1
    # YAML notices an open bracket only where the next thing is wrong.
    assert found[0].startswith(("queues/Q.yaml:3: ", "queues/Q.yaml:4: "))
    assert said in found[0]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    write(tmp_path, "queues/A.yaml", "queue: A\ncores: x\nstatus: y\nfoo: 1\n")
    write(tmp_path, "queues/B.yaml", "queue: [\n")
    write(tmp_path, "sites/S.yaml", "site: S\nstatus: z\n")
    places = [problem.place for problem in read_tree(tmp_path).problems]
    assert places == [
        *("queues/A.yaml:2", "queues/A.yaml:3", "queues/A.yaml:4", "queues/B.yaml:2"),
        "sites/S.yaml:2",
    ]


def test_an_old_name_is_understood_with_its_unit_and_noted(tmp_path: Path) -> None:
    text = "queue: Q\nmaxinputsize: 14336\nmaxtime: 172800\ntimefloor: 60\ncopytool: gfal\nretry: False\n"
    tree = read_one(tmp_path, text)
    queue = values(tree)
    assert queue.max_input_bytes == 14336 * MIB
    assert queue.max_wall_time.seconds == 172800
    assert queue.multi_job_window.seconds == 3600
    assert list(queue.copy_tools_in.values) == list(queue.copy_tools_out.values) == ["gfal"]
    assert queue.HasField("job_recovery")
    assert not queue.job_recovery
    notes = [str(note) for note in tree.notes]
    assert "queues/Q.yaml:2: maxinputsize is called max_input_bytes now: 14 GiB" in notes
    assert "queues/Q.yaml:4: timefloor is called multi_job_window now: 1 h" in notes


def test_an_old_name_beside_the_new_one_is_a_duplicate(tmp_path: Path) -> None:
    (said,) = problems(tmp_path, "queue: Q\nmax_input_bytes: 1 GiB\nmaxinputsize: 2048\n")
    assert said == (
        "queues/Q.yaml:3: maxinputsize sets max_input_bytes, which line 2 already sets "
        "(as max_input_bytes)"
    )


def test_two_files_for_one_queue_and_a_name_that_is_not_the_file_s_are_refused(
    tmp_path: Path,
) -> None:
    write(tmp_path, "queues/Q.yaml", "queue: Q\n")
    write(tmp_path, "queues/more/Q.yml", "queue: Q\n")
    write(tmp_path, "queues/R.yaml", "# c\nqueue: S\n")
    assert [str(problem) for problem in read_tree(tmp_path).problems] == [
        "queues/R.yaml:2: it describes queue S, so its name must be S.yaml",
        "queues/more/Q.yml:1: queue Q is already described by queues/Q.yaml",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no `name: value` in it"),
        ("# only a comment\n", "there is no `name: value` in it"),
        ("- a\n", "there is no `name: value` in it"),
        ("cores: 1\n", "it does not name the queue; begin it with `queue: NAME`"),
        ("queue: \n", "queue must be a name"),
        ("queue: [Q]\n", "queue must be a name"),
        (b"queue: \xff\xfe\n", "the file is not UTF-8"),
        ("queue: Q\x00\n", "unacceptable character"),
        ("queue: Q\n#" + "x" * MAX_FILE_BYTES, "bytes; the limit is"),
    ],
)
def test_a_file_that_describes_nothing_is_refused(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    (found,) = problems(tmp_path, text)
    assert said in found


def test_a_billion_laughs_are_refused_at_the_first(tmp_path: Path) -> None:
    lines = ["queue: Q", 'a: &a ["lol","lol"]']
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)},*{chr(97 + n)}]" for n in range(20)]
    begin = time.process_time()
    (found,) = problems(tmp_path, "\n".join(lines))
    assert "queues/Q.yaml:2: anchors (&name) are not taken here" in found
    # Expanding them would take hours and all memory.
    assert time.process_time() - begin < 60


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "- " * 60_000, "? " * 60_000, "a: [" + "b," * 60_000 + "]", "{" * 100_000],
    ids=["brackets", "lists", "keys", "items", "braces"],
)
def test_what_only_costs_time_is_refused_at_a_bound(tmp_path: Path, text: str) -> None:
    (found,) = problems(tmp_path, text)
    assert "nested more than 4 deep" in found or "more than 10,000 values" in found


def test_a_file_in_the_wrong_directory_is_told_so(tmp_path: Path) -> None:
    write(tmp_path, "sites/Q.yaml", "queue: Q\nsite: S\ncores: 1\n")
    said = [str(problem) for problem in read_tree(tmp_path).problems]
    assert "sites/Q.yaml:1: it describes a queue, but is in the directory of sites" in said
    write(tmp_path, "sites/Q.yaml", "site: Q\n")
    write(tmp_path, "clouds/C.yaml", "cloud: C\nsite: S\n")
    (found,) = read_tree(tmp_path).problems
    assert str(found) == "clouds/C.yaml:2: site cannot be set for a cloud"


def test_files_of_others_are_left_alone_and_misplaced_ones_named(tmp_path: Path) -> None:
    for file in (".git/x.yaml", "README.md", "queues/.Q.yaml.swp", "queues/notes.txt", ".ci.yaml"):
        write(tmp_path, file, "x: y")
    write(tmp_path, "Q.yaml", "queue: Q")
    tree = read_tree(tmp_path)
    assert tree.files == []
    assert [str(problem) for problem in tree.problems] == [
        "Q.yaml: it is in none of clouds/, sites/, queues/"
    ]


def test_links_and_what_is_no_file_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "secret", "queue: Q\n")
    folder = tmp_path / "tree" / "queues"
    folder.mkdir(parents=True)
    (folder / "Q.yaml").symlink_to(tmp_path / "secret")
    (folder / "R.yaml").mkdir()
    found = [str(problem) for problem in read_tree(tmp_path / "tree").problems]
    assert [said.partition(":")[0] for said in found] == ["queues/Q.yaml"]
    assert "symbolic link" in found[0]


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="is not a directory"):
        read_tree(tmp_path / "nope")


def test_a_name_that_would_hide_its_file_gets_another_file(tmp_path: Path) -> None:
    path = default_path(tmp_path, Key(QUEUE, ".hidden"))
    assert path.name == "%2Ehidden.yaml"
    write(tmp_path, "queues/%2Ehidden.yaml", "queue: .hidden\n")
    assert values(read_tree(tmp_path), Key(QUEUE, ".hidden")) == parameters_pb2.QueueParameters()
