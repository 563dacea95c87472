"""Whatever is accepted is harmless, and nothing makes the checker itself fail."""

import os.path

from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.wire.edge import rules

# As protobuf delivers strings: any code point but surrogates.
ANYTHING = st.text(st.characters(codec="utf-8"))
PATHS = st.lists(
    st.sampled_from(["..", ".", "", "a", "/", "%2e%2e", "b c", "\n", "ø"]), max_size=6
).map("/".join)


@given(ANYTHING | PATHS)
def test_an_accepted_lfn_stays_below_its_directory(lfn: str) -> None:
    if rules.lfn_problem(lfn) is None:
        path = os.path.normpath(os.path.join("/work", lfn))  # noqa: PTH118 (text, not files)
        assert path == f"/work/{lfn}"
        assert len(lfn.encode()) <= 255


@given(ANYTHING | PATHS)
def test_an_accepted_name_is_one_path_part_and_one_argument(name: str) -> None:
    if rules.name_problem(name, 64) is None:
        assert os.path.normpath(f"/work/{name}") == f"/work/{name}"
        assert name.isascii()
        assert name.isprintable()
        assert name[0] not in "-."
        assert not set(name) & set("/ \\'\"$`")


@given(PATHS.map("file:///".__add__) | PATHS.map("root://node:1094//".__add__))
def test_an_accepted_url_does_not_climb(url: str) -> None:
    if rules.url_problem(url) is None:
        assert ".." not in url.partition("://")[2].replace("%2e", ".").split("/")


@given(ANYTHING)
def test_every_rule_answers_any_text_with_a_printable_sentence(text: str) -> None:
    answers = [
        rules.name_problem(text, 64),
        rules.text_problem(text, 100),
        rules.lfn_problem(text),
        rules.host_problem(text),
        rules.guid_problem(text),
        rules.checksum_problem(text),
        rules.sha256_problem(text),
        rules.request_id_problem(text),
        rules.url_problem(text),
    ]
    for answer in answers:
        if answer is not None:
            assert "\n" not in answer
            assert "\x1b" not in answer
            assert len(answer) < 400
