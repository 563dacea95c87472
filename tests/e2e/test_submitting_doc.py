"""docs/submitting.md, typed: its commands, what its table says of %IN, and the variables that it names."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.fixtures.command import Pandawn, RunCli
from tests.fixtures.pilots import StartPilot
from tests.fixtures.tier3 import Tier3

PAGE = (Path(__file__).parents[2] / "docs" / "submitting.md").read_text(encoding="utf-8")
# What the page calls its queue, its task and its job.
QUEUE, TASK, JOB = "ANALY_T3", "7", "123"
USER = ("--user", "ann")


def commands() -> list[list[str]]:
    """Each `pandawn ...` of the page's blocks, without the word itself."""
    blocks = "\n".join(re.findall(r"(?:^    [^\n]*\n)+", PAGE, re.MULTILINE)).replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in blocks.splitlines())
    return [words[1:] for words in lines if words[:1] == ["pandawn"]]


def rows(title: str) -> list[list[str]]:
    """The cells of the table whose first title this is."""
    table = PAGE[PAGE.index(f"| {title} |") :].split("\n\n")[0]
    # Behind the titles and the line below them.
    return [
        [cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]
    ]


def code(cell: str) -> str:
    (found,) = re.findall(r"`([^`]+)`", cell)
    return str(found)


@pytest.fixture
def pandawn(tier3: Tier3, tmp_path: Path, run_cli: RunCli, start_pilot: StartPilot) -> Pandawn:
    start_pilot(tier3, node="wn-a", max_jobs=2)
    for name in ("a.root", "b.root", "c.root"):
        (tmp_path / name).write_text(f"{name}\n")
    return Pandawn(tier3.server.address, tmp_path, run_cli)


def as_typed(words: list[str], queue: str, task: int = 0, job: int = 0) -> list[str]:
    names = {QUEUE: queue, TASK: str(task), JOB: str(job)}
    return [names.get(word, word) for word in words]


def test_the_first_command_and_those_for_afterwards_do_what_the_page_says(
    pandawn: Pandawn, tier3: Tier3, tmp_path: Path
) -> None:
    (tmp_path / "analysis").mkdir()
    script = "import sys; open(sys.argv[2], 'w').write(' '.join(sys.argv[3:]))"
    (tmp_path / "analysis" / "ana.py").write_text(script)
    (tmp_path / "list.dat").write_text("".join(f"{tmp_path}/{name}.root\n" for name in "abc"))
    first, *afterwards = commands()
    done = pandawn.run("submit", *USER, *as_typed(first[1:], tier3.queue))
    assert done.status == 0, done.err
    (directory,) = tier3.storage.glob("*/ann/zpeak")
    (output,) = directory.glob("*.hist.root")
    task = re.findall(r"task (\d+) of ann", done.out)[0]
    assert output.name == f"zpeak.{task}._000001.hist.root"
    assert output.read_text() == "a.root b.root c.root"

    # Of a task that failed there is something to say and to do.
    one = ("--queue", tier3.queue, "--jobs", "1", "--max-attempts", "1")
    failed = json.loads(pandawn.ok("submit", *USER, *one, "--json", "--", "false"))["task_id"]
    assert pandawn.run("wait", str(failed)).status == 1
    job = json.loads(pandawn.ok("jobs", "--task", str(failed), "--json"))[0]["job_id"]
    assert {words[0] for words in afterwards} == {"wait", "jobs", "job", "why", "retry", "kill"}
    for words in afterwards:
        said = pandawn.run(*as_typed(words, tier3.queue, failed, job))
        assert said.status == (1 if words[0] == "wait" else 0), said


def test_in_becomes_what_the_table_says(pandawn: Pandawn, tier3: Tier3, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ana"
    program.write_text('#!/bin/sh\necho "ana $*" > out\n')
    program.chmod(0o755)
    common = (*USER, "--queue", tier3.queue, "--files-per-job", "2", "--output", "out")
    path = f"PATH={program.parent}:/usr/local/bin:/usr/bin:/bin"
    outcomes = []
    for number, (written, becomes, _) in enumerate(rows("command")):
        words = shlex.split(code(written).removeprefix("-- "))
        said = pandawn.run(
            *("submit", *common, "--env", path, "--dataset", f"d{number}", "--max-attempts", "1"),
            *("a.root", "b.root", "--wait", "--", *words),
        )
        stored = [found.read_text() for found in tier3.storage.glob(f"*/ann/d{number}/*.out")]
        outcomes.append((said, stored, becomes))
    words_of_their_own, commas, shell, joined = outcomes
    for said, stored, becomes in (words_of_their_own, commas):
        assert said.status == 0, said.err
        assert stored == [f"{code(becomes)}\n"]
    assert shell[0].status == 0, shell[0].err
    assert shell[1] == ["a.root\nb.root\n"]
    said, stored, becomes = joined
    assert said.status == 1
    assert stored == []
    assert code(becomes) == "a.root,b.root"
    assert code(becomes).replace("a.root,b.root", "comma") in said.err.lower()


def test_a_payload_has_every_variable_that_the_page_names(pandawn: Pandawn, tier3: Tier3) -> None:
    named = {name for cells in rows("variable") for name in re.findall(r"PANDAWN_\w+", cells[0])}
    assert len(named) == 6
    pandawn.ok(
        *("submit", *USER, "--queue", tier3.queue, "--dataset", "env", "--output", "env.txt"),
        *("a.root", "b.root", "--files-per-job", "2", "--wait", "--"),
        *("sh", "-c", 'cat "$PANDAWN_INPUTS_FILE" > env.txt; env >> env.txt', "sh", "%IN"),
    )
    (output,) = tier3.storage.glob("*/ann/env/*.env.txt")
    lines = output.read_text().splitlines()
    assert lines[:2] == ["a.root", "b.root"]
    found = dict(line.partition("=")[::2] for line in lines[2:])
    assert named <= set(found)
    assert (found["PANDAWN_JOB_INDEX"], found["PANDAWN_ATTEMPT"]) == ("1", "1")
    assert found["PANDAWN_INPUTS"] == "a.root,b.root"
