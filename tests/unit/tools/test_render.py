import pytest
from rich.text import Text

from pandawn_tools.cli.errors import CliError, ExitStatus, report
from pandawn_tools.cli.render import clean, location
from pandawn_tools.cli.tables import Column, print_fields, print_table

COLUMNS = (Column("ID", "right"), Column("NAME", fold=True), Column("NOTE", optional=True))


def test_escape_sequences_of_others_are_made_visible() -> None:
    assert clean("a\x1b[31mb\nc\u202ed\udcff") == r"a\x1b[31mb\nc\u202ed\udcff"


def test_markup_in_names_is_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [[1, "[red]x[/red]", ""]], empty="")
    assert "[red]x[/red]" in capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_table_fits_the_terminal_and_loses_no_letter(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    name = "".join(chr(ord("a") + n % 26) for n in range(100))
    print_table(COLUMNS, [[1, name, "note"]], empty="")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    folded = "".join(line[3:].split("  ")[0].strip() for line in lines[1:])
    assert folded == name


def test_a_name_is_broken_at_its_marks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    print_table(COLUMNS, [[1, "zpeak.20261128-205514.b396fa12/hist.root", ""]], empty="")
    names = [line[4:] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == ["zpeak.20261128-", "205514.b396fa12/", "hist.root"]


def test_a_path_stays_in_one_line_to_be_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "/home/anna/" + "directory/" * 8 + "token"
    print_fields([("file", path), ("note", "several words " * 6)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", path]
    assert max(map(len, lines[1:])) <= 40


def test_what_is_piped_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(COLUMNS, [[1, "n" * 300, ""]], empty="")
    assert "n" * 300 in capsys.readouterr().out


def test_an_optional_column_is_there_when_a_cell_is_filled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(COLUMNS, [[1, "a", ""], [2, "b", Text("x")]], empty="")
    assert "NOTE" in capsys.readouterr().out
    print_table(COLUMNS, [[1, "a", ""]], empty="")
    assert "NOTE" not in capsys.readouterr().out


def test_no_rows_leave_standard_output_empty(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [], empty="There is nothing.")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "There is nothing.\n")


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("a", "1"), ("b", ""), ("c", 0)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["a", "1"],
        ["c", "0"],
    ]


def test_a_file_url_is_shown_as_the_path_that_one_can_use() -> None:
    assert location("file:///a%20b/c") == "/a b/c"
    assert location("https://h/a") == "https://h/a"


def test_an_error_tells_reason_causes_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = CliError(
        ExitStatus.REFUSED,
        "SOME_REASON",
        "it failed",
        details=["a \x1bcause"],
        remedies=["do this"],
    )
    report(error)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: it failed [SOME_REASON]\n  - a \\x1bcause\n  -> do this\n"


def test_a_thousand_causes_are_counted_and_not_all_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report(CliError(ExitStatus.USAGE, "R", "m", details=[f"cause {n}" for n in range(1000)]))
    assert "... and 980 more" in capsys.readouterr().err
