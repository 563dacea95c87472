import pytest

from pandawn.common.v1 import common_pb2 as types
from pandawn_tools.cli import words
from pandawn_tools.cli.errors import CliError


def test_every_state_of_a_job_is_read_back_from_its_word() -> None:
    for value in types.JobState.values():
        if value:
            assert words.read_job_state(words.job_state(value)) == value


@pytest.mark.parametrize("text", ["RUNNING", "JOB_STATE_RUNNING", " running "])
def test_a_state_is_read_in_any_spelling(text: str) -> None:
    assert words.read_job_state(text) == types.JOB_STATE_RUNNING


@pytest.mark.parametrize("text", ["", "unspecified", "runing"])
def test_what_is_no_state_gets_the_list_of_those_that_are(text: str) -> None:
    with pytest.raises(CliError, match="not a state") as caught:
        words.read_job_state(text)
    assert "activated" in caught.value.remedies[0]


def test_an_unset_value_has_no_word_and_a_newer_one_its_number() -> None:
    assert words.phase(types.PHASE_UNSPECIFIED) == ""
    assert words.phase(types.Phase.ValueType(77)) == "#77"


def test_words_of_two_parts_are_hyphenated() -> None:
    assert words.phase(types.PHASE_STAGE_IN) == "stage-in"
    assert words.queue_status_words() == ["online", "offline", "test", "brokeroff", "paused"]
