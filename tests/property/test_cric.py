"""The reader of CRIC takes whatever JSON holds, in any field, and says what it makes of it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pandawn.queueconfig.v1 import parameters_pb2
from pandawn_tools.cric.document import DocumentError, read_list
from pandawn_tools.cric.findings import Outcome
from pandawn_tools.cric.reader import CricQueue, read_queue
from pandawn_tools.queuefiles.parameters import assign, old_names, parameters
from tests.fixtures.cric import make_cric_list, make_cric_queue

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "0", "FALSE", "1e999", "a^b", "A=1 B='2", "x|y", "\ud800", "-1", "9" * 5000]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = sorted({*make_cric_queue("Q", "S"), *old_names(), *(f"{n}_data" for n in old_names())})


def is_sound(queue: CricQueue) -> None:
    """Sees that what was understood can be sent, and that all that was found has words."""
    message = parameters_pb2.QueueParameters()
    for name, value in queue.says.items():
        if value is not None:
            assign(message, parameters()[name], value)
    assert parameters_pb2.QueueParameters.FromString(message.SerializeToString()) == message
    for finding in queue.findings:
        assert finding.outcome is Outcome.MAPPED or finding.note


@given(st.sampled_from(FIELDS), JSON)
def test_any_value_in_any_field_spoils_that_field_at_most(name: str, value: object) -> None:
    good = read_queue("Q", make_cric_queue("Q", "S"))  # type: ignore[arg-type]
    queue = read_queue("Q", {**make_cric_queue("Q", "S"), name: value})  # type: ignore[dict-item]
    is_sound(queue)
    top = name.removesuffix("_data")
    touched = {
        p.name
        for p in parameters().values()
        for o in p.old_names
        if o.name.partition(".")[0] == top
    }
    touched |= {"status"} if top == "state" else set()
    for parameter, said in good.says.items():
        if parameter not in touched:
            assert queue.says[parameter] == said


@given(st.text(max_size=10), JSON)
def test_any_value_in_place_of_a_queue_is_no_exception(name: str, value: object) -> None:
    is_sound(read_queue(name, value))  # type: ignore[arg-type]


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_list_or_refused_with_words(raw: bytes) -> None:
    try:
        found = read_list(raw).queues
    except DocumentError:
        found = {}
    for name, value in found.items():
        is_sound(read_queue(name, value))


def test_a_thousand_queues_are_read_and_only_broken_ones_are_left_out() -> None:
    queues = [read_queue(name, value) for name, value in make_cric_list().items()]  # type: ignore[arg-type]
    for queue in queues:
        is_sound(queue)
    assert len(queues) == 1000
    assert 950 < sum(queue.is_usable for queue in queues) < 1000
