"""What matching promises, for any queue, any node and any picture of the caches."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from pandawn_server.domain.jobs import Requirements
from pandawn_server.domain.matching import (
    MOVE_BYTES_PER_S,
    Candidate,
    Locality,
    Match,
    Rules,
    Share,
    Shares,
    band,
    choose,
    hold,
    sentence,
    unmet,
)
from tests.fixtures.clock import NOON
from tests.fixtures.factories import make_shares

GB = 10**9
Scene = tuple[list[Candidate], Requirements, Shares, Rules]
NOW = NOON + timedelta(hours=1)

# Few values each, so that ties are common: they are where orders go wrong.
SIZES = st.sampled_from([0, 1, GB, 5 * GB, 60 * GB])
REQUIREMENTS = st.builds(
    Requirements,
    memory_bytes=st.sampled_from([None, GB, 2 * GB]),
    cores=st.sampled_from([None, 1, 8]),
    disk_bytes=st.sampled_from([None, GB, 100 * GB]),
    wall_time=st.sampled_from([None, timedelta(hours=1), timedelta(days=1)]),
)
RULES = st.builds(
    Rules,
    priority_band=st.sampled_from([1, 10, 100]),
    locality_wait=st.sampled_from([timedelta(0), timedelta(seconds=30), timedelta(hours=1)]),
    max_input_bytes=st.sampled_from([0, 10 * GB]),
)


@st.composite
def queues(draw: st.DrawFn) -> list[Candidate]:
    """Runnable jobs with distinct numbers, in no order."""
    job_ids = draw(st.lists(st.integers(1, 30), unique=True, max_size=12))
    return [
        Candidate(
            job_id,
            priority=draw(st.sampled_from([-100, 0, 5, 50, 100, 1000])),
            input_bytes=draw(SIZES),
            since=NOW - timedelta(seconds=draw(st.sampled_from([-5, 0, 10, 40, 3600]))),
            requirements=draw(REQUIREMENTS),
        )
        for job_id in job_ids
    ]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A queue, a node, and what caches hold of the queue's inputs."""
    queue = draw(queues())
    here: dict[int, int] = {}
    elsewhere: dict[int, Share] = {}
    for job in queue:
        for held in (here, elsewhere):
            local = draw(st.integers(0, 2)) * job.input_bytes // 2
            if not local:
                continue
            if held is here:
                here[job.job_id] = local
            else:
                elsewhere[job.job_id] = Share("wn02", local)
    known = draw(st.booleans())
    shares = Shares(known, here if known else {}, elsewhere if known else {})
    return queue, draw(REQUIREMENTS), shares, draw(RULES)


def chosen(scene: Scene, count: int = 100) -> list[Match]:
    queue, offer, shares, rules = scene
    return choose(queue, offer, shares, rules, NOW, count)


def is_held(job: Candidate, shares: Shares, rules: Rules) -> bool:
    best = shares.best_elsewhere.get(job.job_id)
    return hold(job, shares.here.get(job.job_id, 0), best, rules, NOW) is not None


@given(scenes(), st.integers(1, 8))
def test_only_eligible_jobs_are_chosen_each_once_and_no_more_than_asked(
    scene: Scene, count: int
) -> None:
    queue, offer, _, rules = scene
    ids = [match.job_id for match in chosen(scene, count)]
    eligible = {job.job_id for job in queue if not unmet(job, offer, rules)}
    assert set(ids) <= eligible
    assert len(set(ids)) == len(ids) <= count


@given(scenes(), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_candidates(
    scene: Scene, rng: Random
) -> None:
    queue, offer, shares, rules = scene
    shuffled = list(queue)
    rng.shuffle(shuffled)
    assert chosen((shuffled, offer, shares, rules)) == chosen(scene)


@given(scenes(), st.integers(1, 8))
def test_who_asks_for_less_gets_the_first_of_what_who_asks_for_more_gets(
    scene: Scene, count: int
) -> None:
    assert chosen(scene, count) == chosen(scene)[:count]


@given(scenes())
def test_what_is_left_over_would_have_come_after_what_was_chosen(
    scene: Scene,
) -> None:
    """Taking jobs away that come later in the order does not change the order of the others."""
    matches = chosen(scene)
    assume(len(matches) > 1)
    queue, offer, shares, rules = scene
    last = matches[-1].job_id
    without = [job for job in queue if job.job_id != last]
    ids = [match.job_id for match in chosen((without, offer, shares, rules))]
    assert ids == [match.job_id for match in matches[:-1]]


@given(scenes())
def test_priority_bands_are_never_inverted(
    scene: Scene,
) -> None:
    """A job comes after one of a lower band only if it is kept for another node."""
    queue, _, shares, rules = scene
    job_of = {job.job_id: job for job in queue}
    order = [job_of[match.job_id] for match in chosen(scene)]
    for position, later in enumerate(order):
        for earlier in order[:position]:
            if band(later.priority, rules.priority_band) > band(
                earlier.priority, rules.priority_band
            ):
                assert is_held(later, shares, rules)


@given(scenes())
def test_every_eligible_job_that_is_not_held_is_given_if_enough_is_asked(
    scene: Scene,
) -> None:
    """Nobody idles while there is work that is not kept for somebody else."""
    queue, offer, shares, rules = scene
    ids = {match.job_id for match in chosen(scene)}
    for job in queue:
        if not unmet(job, offer, rules) and not is_held(job, shares, rules):
            assert job.job_id in ids


@given(scenes())
def test_a_job_is_kept_no_longer_than_the_wait_of_its_queue_and_the_move(
    scene: Scene,
) -> None:
    queue, offer, shares, rules = scene
    ids = {match.job_id for match in chosen(scene)}
    for job in queue:
        if unmet(job, offer, rules) or job.job_id in ids:
            continue
        best = shares.best_elsewhere[job.job_id]
        here = shares.here.get(job.job_id, 0)
        assert best.local_bytes > here
        left = job.since + rules.locality_wait - NOW
        assert left > timedelta(0)
        assert left.total_seconds() <= (job.input_bytes - here) / MOVE_BYTES_PER_S


@given(scenes())
def test_without_a_wait_or_without_the_catalog_no_job_is_held(
    scene: Scene,
) -> None:
    _, _, shares, rules = scene
    assume(not rules.locality_wait or not shares.known)
    assert all(match.held == 0 for match in chosen(scene))


@given(scenes())
def test_the_explanation_is_true(
    scene: Scene,
) -> None:
    queue, offer, shares, rules = scene
    job_of = {job.job_id: job for job in queue}
    eligible = [job for job in queue if not unmet(job, offer, rules)]
    for match in chosen(scene):
        job = job_of[match.job_id]
        assert match.candidates == len(eligible)
        assert match.held == sum(is_held(other, shares, rules) for other in eligible)
        assert match.input_bytes == job.input_bytes
        assert match.local_bytes == shares.here.get(job.job_id, 0)
        assert match.moved_bytes == match.input_bytes - match.local_bytes >= 0
        assert match.waited == max(NOW - job.since, timedelta(0))
        assert (match.locality is Locality.KNOWN) == shares.known
        assert sentence(match, "wn01").startswith("given to wn01 because")


@given(queues(), RULES)
def test_of_jobs_that_differ_in_nothing_but_age_the_older_goes_first(
    queue: list[Candidate], rules: Rules
) -> None:
    """Nobody starves: whoever is passed over is passed over for a reason other than bad luck."""
    alike = [Candidate(job.job_id, 0, GB, job.since, Requirements()) for job in queue]
    matches = choose(alike, Requirements(), make_shares(), rules, NOW, 100)
    since = {job.job_id: (job.since, job.job_id) for job in alike}
    order = [since[match.job_id] for match in matches]
    assert order == sorted(order)
