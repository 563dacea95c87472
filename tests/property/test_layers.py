"""Layers of a queue, and the history of documents: laws that hold for whatever somebody sets."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pandawn_server.domain.queues.layers import (
    Document,
    DocumentKey,
    DocumentKind,
    Level,
    Override,
    layers_of,
    next_expiry,
)
from pandawn_server.domain.queues.queues import (
    NOTHING_SET,
    PARAMETERS,
    SETTING_NAMES,
    Parameter,
    PayloadIsolation,
    QueueSettings,
    QueueStatus,
    Value,
    merged,
)
from pandawn_server.domain.queues.revisions import Change, composed
from pandawn_server.storage.queues.settings import Json, pack_settings, unpack_settings
from pandawn_server.wire.queues.convert import from_settings, to_settings
from tests.fixtures.clock import NOON

TEXTS = st.text("abcXYZ .:/-ä", max_size=12)


def values(parameter: Parameter) -> st.SearchStrategy[Value]:
    """Values within the bounds of a parameter."""
    low, high = parameter.bounds or (0, 0)
    kinds: dict[type, st.SearchStrategy[Value]] = {
        str: TEXTS,
        bool: st.booleans(),
        int: st.integers(low, high) if isinstance(low, int) else st.nothing(),  # type: ignore[arg-type]
        float: st.integers(0, 10_000).map(float),
        timedelta: st.timedeltas(low, high) if isinstance(low, timedelta) else st.nothing(),  # type: ignore[arg-type]
        tuple: st.lists(TEXTS, max_size=3).map(tuple),
        QueueStatus: st.sampled_from(QueueStatus),
        PayloadIsolation: st.sampled_from(PayloadIsolation),
    }
    default = st.dictionaries(st.sampled_from("ABC"), TEXTS, max_size=3)
    return kinds.get(parameter.type, default)


NAMED = st.sampled_from(["", "S1", "S2"])
FREE = {n: values(p) for n, p in PARAMETERS.items() if n not in {"site", "cloud", "storage_root"}}
SETTINGS = st.fixed_dictionaries({}, optional=FREE).map(lambda v: QueueSettings(**v))
OWN = st.fixed_dictionaries({}, optional={**FREE, "site": NAMED, "cloud": NAMED}).map(
    lambda v: QueueSettings(**v)
)


def document(kind: DocumentKind, name: str, said: QueueSettings, revision: int) -> Document:
    return Document(DocumentKey(kind, name), said, {}, "", revision, NOON)


OVERRIDES = st.lists(
    st.tuples(st.sampled_from(sorted(FREE)), st.integers(-5, 5)),
    max_size=5,
    unique_by=lambda o: o[0],
).flatmap(
    lambda chosen: st.tuples(
        *(
            values(PARAMETERS[name]).map(
                lambda value, name=name, at=at: Override(  # type: ignore[misc]
                    "Q", name, value, NOON + timedelta(seconds=at), 9
                )
            )
            for name, at in chosen
        )
    )
)


# Sixty parameters make large examples; each says much.
@settings(max_examples=40)
@given(OWN, SETTINGS, SETTINGS, OVERRIDES)
def test_each_value_is_of_the_highest_level_that_sets_it_and_its_origin_says_so(
    own: QueueSettings, site: QueueSettings, cloud: QueueSettings, overrides: tuple[Override, ...]
) -> None:
    known = [document(DocumentKind.QUEUE, "Q", own, 1)]
    known += [document(DocumentKind.SITE, name, site, 2) for name in ("Q", "S1", "S2")]
    known += [document(DocumentKind.CLOUD, name, cloud, 3) for name in ("S1", "S2")]
    layers = layers_of("Q", {d.key: d for d in known}, overrides, NOON)
    assert layers is not None
    counting = {o.parameter: o.value for o in overrides if o.expire_time > NOON}
    below = cloud if own.get("cloud") else NOTHING_SET
    queue, places = layers.queue, layers.places()
    assert list(places) == list(SETTING_NAMES)
    for name, parameter in PARAMETERS.items():
        for level, said in (
            (Level.OVERRIDE, counting),
            (Level.QUEUE, own),
            (Level.SITE, site),
            (Level.CLOUD, below),
            (Level.DEFAULT, {name: parameter.default}),
        ):
            if name in said:
                assert places[name].level is level
                # The site of a queue without one is its name, and a heartbeat fits into the lease.
                if name not in {"site", "heartbeat_interval"}:
                    assert getattr(queue, name) == said[name]
                break


@given(OVERRIDES)
def test_a_queue_stays_what_it_is_until_the_first_of_its_overrides_ends(
    overrides: tuple[Override, ...],
) -> None:
    known = {d.key: d for d in [document(DocumentKind.QUEUE, "Q", NOTHING_SET, 1)]}
    until = next_expiry(overrides, NOON)
    before, now = (
        layers_of("Q", known, overrides, time)
        for time in (NOON, (until or NOON) - timedelta(microseconds=1 if until else 0))
    )
    assert before == now
    if until is not None:
        assert layers_of("Q", known, overrides, until) != before


@given(OWN, OWN, st.sets(st.sampled_from(SETTING_NAMES)))
def test_a_merge_takes_what_the_mask_names_and_nothing_else(
    old: QueueSettings, new: QueueSettings, mask: set[str]
) -> None:
    both = merged(old, new, mask)
    for name in SETTING_NAMES:
        assert both.get(name) == (new if name in mask else old).get(name)
    assert merged(both, new, mask) == both
    assert merged(old, old, mask) == old


@given(OWN)
def test_what_is_set_comes_back_from_the_database_and_from_the_wire(
    settings: QueueSettings,
) -> None:
    assert unpack_settings(pack_settings(settings)) == settings
    back, wrong = from_settings(to_settings(settings))
    assert not wrong
    # Spans of the wire are exact to the microsecond, as Python's are.
    assert back == settings


KEYS = [DocumentKey(kind, name) for kind in DocumentKind for name in ("A", "B")]
STEPS = st.lists(
    st.dictionaries(st.sampled_from(KEYS), st.none() | SETTINGS, min_size=1, max_size=4), max_size=6
)


@settings(max_examples=50)
@given(STEPS, st.data())
def test_a_difference_leads_from_one_time_to_the_other_and_back(
    steps: list[dict[DocumentKey, QueueSettings | None]], data: st.DataObject
) -> None:
    states: list[dict[DocumentKey, QueueSettings]] = [{}]
    history: list[list[Change]] = []
    for step in steps:
        state = dict(states[-1])
        changes = [Change(key, state.get(key), new) for key, new in step.items()]
        for change in changes:
            state.pop(change.key, None)
            if change.new is not None:
                state[change.key] = change.new
        history.append([change for change in changes if not change.is_empty])
        states.append(state)
    low = data.draw(st.integers(0, len(steps)))
    high = data.draw(st.integers(low, len(steps)))
    difference = composed(change for changes in history[low:high] for change in changes)
    assert applied(states[low], difference) == states[high]
    assert applied(states[high], [change.reversed for change in difference]) == states[low]
    assert all(not change.is_empty for change in difference)


def applied(
    state: dict[DocumentKey, QueueSettings], changes: list[Change]
) -> dict[DocumentKey, QueueSettings]:
    after = dict(state)
    for change in changes:
        assert after.pop(change.key, None) == change.old
        if change.new is not None:
            after[change.key] = change.new
    return after


def test_what_a_newer_version_set_is_left_out_and_the_rest_is_read() -> None:
    packed: dict[str, Json] = {"cores": 4, "status": "drowsy", "colour": "red", "releases": ["a"]}
    assert unpack_settings(packed) == QueueSettings(cores=4, releases=("a",))
