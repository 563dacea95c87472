"""Files of queues: what is written is read back, edits keep what people wrote, and no bytes do harm."""

import tempfile
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.queuefiles.document import CLOUD, QUEUE, SITE, Key, allowed, read_document
from pandawn_tools.queuefiles.exact import read_duration, read_size, write_duration, write_size
from pandawn_tools.queuefiles.export import export, new_text
from pandawn_tools.queuefiles.parameters import value_of
from pandawn_tools.queuefiles.problems import BadValueError
from pandawn_tools.queuefiles.tree import read_tree
from pandawn_tools.queuefiles.values import from_text, plain
from pandawn_tools.queuefiles.yamlparse import decode, parse
from pandawn_tools.queuefiles.yamltree import Entries, YamlError
from tests.fixtures.queues import NAMES, TEXTS, queues, values_for

KINDS = st.sampled_from([CLOUD, SITE, QUEUE])
# Pieces of which YAML is made, so that random texts are often nearly right.
YAML_PIECES = st.lists(
    st.sampled_from(
        [
            *("queue: Q\n", "site: S\n", "cores: 8\n", "cores", ": ", ":", "- ", "\n", "  ", "#"),
            *("[", "]", "{", "}", ",", "|", ">", "'", '"', "&a ", "*a", "!!str ", "<<", "? "),
            *("---\n", "...\n", "%YAML 1.1\n", "\t", "\r\n", "~", "\x00", "\x85", "\ufeff"),
            *("maxtime: 1\n", "copytool: x\n", "environment: {A: b}\n", "releases:\n- a\n- b\n"),
        ]
    ),
    max_size=20,
).map("".join)


def read_back(text: str, kind: int = QUEUE) -> parameters_pb2.QueueParameters:
    document, problems, notes = read_document(parse(text), Path("f"), "f", kind)  # type: ignore[arg-type]
    assert (problems, notes) == ([], [])
    assert document is not None
    return document.values


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_size_that_is_written_is_read_back_to_the_byte(size: int) -> None:
    assert read_size(write_size(size)) == size


@given(st.integers(-(10**17), 10**17))
def test_a_span_of_time_that_is_written_is_read_back_to_the_microsecond(micros: int) -> None:
    span = Duration()
    span.FromMicroseconds(micros)
    assert read_duration(write_duration(span)) == span


@given(st.data())
def test_numbers_and_words_that_are_shown_can_be_typed_again(data: st.DataObject) -> None:
    parameter = data.draw(st.sampled_from(list(allowed(QUEUE))))
    value = data.draw(values_for(parameter))
    if not isinstance(value, str | tuple | dict):
        assert from_text(parameter, plain(parameter, value)) == value


@given(KINDS, st.data())
def test_a_document_that_is_written_is_read_back(kind: int, data: st.DataObject) -> None:
    values = data.draw(queues(kind))  # type: ignore[arg-type]
    key = Key(kind, data.draw(NAMES))  # type: ignore[arg-type]
    text = new_text(key, values)
    assert read_back(text, kind) == values


# Shrinking dozens of draws takes minutes, and what was drawn shows well enough what is wrong.
@settings(max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(queues(), queues(), st.data())
def test_an_export_over_a_file_changes_its_values_and_keeps_every_comment(
    before: parameters_pb2.QueueParameters,
    after: parameters_pb2.QueueParameters,
    data: st.DataObject,
) -> None:
    # What stands before remains where the new queue says nothing else.
    wanted = parameters_pb2.QueueParameters()
    for parameter in allowed(QUEUE):
        for source in (after, before) if data.draw(st.booleans()) else (after,):
            if value_of(wanted, parameter) is None and source.HasField(parameter.name):  # type: ignore[arg-type]
                _copy(source, wanted, parameter.name)
    lines = new_text(Key(QUEUE, "Q"), before).splitlines()
    comments = data.draw(st.lists(st.integers(0, len(lines)), max_size=5))
    for number, position in enumerate(sorted(comments, reverse=True)):
        lines.insert(position, f"# comment {number} of people")
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, "queues", "Q.yaml")
        path.parent.mkdir()
        path.write_bytes("\n".join(lines).encode())
        done = export(Path(root), {Key(QUEUE, "Q"): wanted}, prune=False)
        assert not done.problems
        assert read_back(path.read_text()) == wanted
        said = path.read_text().splitlines()
        kept = [line.strip() for line in said if "of people" in line]
        assert sorted(kept) == sorted(f"# comment {n} of people" for n in range(len(comments)))
        assert not read_tree(Path(root)).problems
        again = export(Path(root), {Key(QUEUE, "Q"): wanted}, prune=False)
        assert (again.same, again.changed) == (1, [])


def _copy(
    source: parameters_pb2.QueueParameters, target: parameters_pb2.QueueParameters, name: str
) -> None:
    field = parameters_pb2.QueueParameters.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(target, name).CopyFrom(getattr(source, name))
    else:
        setattr(target, name, getattr(source, name))


@given(st.binary(max_size=300) | YAML_PIECES.map(lambda text: text.encode()), KINDS)
def test_any_bytes_are_read_or_refused_with_words(raw: bytes, kind: int) -> None:
    root: Entries | None = None
    line = 0
    try:
        root = parse(decode(raw))
    except YamlError as error:
        line = error.line
    assert line >= 0
    if root is None:
        return
    document, problems, _ = read_document(root, Path("f"), "f", kind)  # type: ignore[arg-type]
    assert document is not None or problems


@given(st.data())
def test_any_text_for_any_parameter_is_read_or_refused_with_words(data: st.DataObject) -> None:
    parameter = data.draw(st.sampled_from(list(allowed(QUEUE))))
    text = data.draw(TEXTS | st.text(max_size=20) | st.from_regex(r"-?[0-9.]{1,30} ?[A-Za-z]{0,4}"))
    refused: BadValueError | None = None
    try:
        from_text(parameter, text)
    except BadValueError as error:
        refused = error
    assert refused is None or str(refused)
