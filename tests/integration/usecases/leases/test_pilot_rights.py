"""A pilot touches its own jobs, or those of one that was on its node before it; and its node's cache."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pandawn_server.domain.access.pilot_rights import acting_session, check_cache, check_own_pilot
from pandawn_server.domain.access.principals import LOCAL_OPERATOR, Method, Principal, Role, Session
from pandawn_server.domain.catalog.inventory import NodeKey
from pandawn_server.domain.errors import ForbiddenError
from pandawn_server.domain.leases.pilots import Pilot
from pandawn_server.domain.tasks.jobs import JobState, Phase
from pandawn_server.usecases.dispatch.leasing import Grant
from pandawn_server.usecases.leases.holders import check_speaks_for
from pandawn_server.usecases.leases.pilots import deregister_pilot
from pandawn_server.usecases.leases.renew import Heartbeat, Renewal, renew_leases
from pandawn_server.usecases.leases.report import release_jobs, report_jobs
from pandawn_server.usecases.tasks.sandboxes import check_may_read, store_sandbox
from tests.fixtures.factories import QUEUE, SITE, node_key
from tests.fixtures.world import World, failure, good, lease_ref, reason, session_of, success

OTHER_QUEUE = "OTHER"


def by(session: Session) -> Principal:
    return Principal(
        "pilot:x", Method.SESSION, frozenset({Role.PILOT}), "a session", session=session
    )


def make_person(*roles: Role, sites: frozenset[str] = frozenset()) -> Principal:
    return Principal("anna", Method.TOKEN, frozenset(roles), "a rule", sites=sites)


@pytest.fixture
def owner(world: World) -> Pilot:
    return world.pilot(1)


@pytest.fixture
def grant(world: World, owner: Pilot) -> Grant:
    world.submit_jobs(1)
    return world.take(owner)


def renew(world: World, pilot_id: str, session: Session | None, grant: Grant) -> object:
    renewal = Renewal(grant.job.job_id, grant.attempt, grant.token, Phase.PAYLOAD)
    beat = Heartbeat(pilot_id, (renewal,), None, session)
    return good(renew_leases(world.context, [beat])[0]).results[0]


def strangers(world: World) -> list[Session]:
    """Sessions that know the token of the lease, which is not enough."""
    world.queue(OTHER_QUEUE)
    return [
        session_of(world.pilot(2)),
        session_of(world.pilot(1, queue=OTHER_QUEUE)),
        # A tool of the very node runs no jobs.
        Session("", QUEUE, node_key(1)),
        Session("made-up", QUEUE, NodeKey("ELSEWHERE", node_key(1).node)),
    ]


def test_a_pilot_renews_reports_and_gives_back_its_own(
    world: World, owner: Pilot, grant: Grant
) -> None:
    mine = session_of(owner)
    renew(world, owner.pilot_id, mine, grant)
    good(release_jobs(world.context, [lease_ref(grant, mine)])[0])
    again = world.take(owner)
    assert good(report_jobs(world.context, [success(again, mine)])[0]).state is JobState.FINISHED


def test_the_token_of_a_lease_is_of_no_use_to_another_node_or_queue(
    world: World, owner: Pilot, grant: Grant
) -> None:
    before = world.job(grant.job.job_id)
    for session in strangers(world):
        assert reason(renew(world, owner.pilot_id, session, grant)) == "NOT_YOUR_LEASE"
        (reported,) = report_jobs(world.context, [failure(grant, session=session)])
        assert reason(reported) == "NOT_YOUR_LEASE"
        (released,) = release_jobs(world.context, [lease_ref(grant, session)])
        assert reason(released) == "NOT_YOUR_LEASE"
    assert world.job(grant.job.job_id) == before
    good(world.report(success(grant))[0])


def test_a_strangers_report_beside_the_owners_spoils_nothing(
    world: World, owner: Pilot, grant: Grant
) -> None:
    stranger = session_of(world.pilot(2))
    answers = report_jobs(
        world.context,
        [failure(grant, session=stranger), success(grant, session_of(owner))],
    )
    assert reason(answers[0]) == "NOT_YOUR_LEASE"
    assert good(answers[1]).state is JobState.FINISHED


def test_a_stranger_is_not_told_what_became_of_a_job(
    world: World, owner: Pilot, grant: Grant
) -> None:
    good(report_jobs(world.context, [success(grant, session_of(owner))])[0])
    for session in strangers(world):
        (answer,) = report_jobs(world.context, [success(grant, session)])
        assert reason(answer) == "NOT_YOUR_LEASE"


def test_a_pilot_that_begins_again_on_the_node_speaks_for_the_one_before(
    world: World, owner: Pilot, grant: Grant
) -> None:
    later = world.pilot(1)
    session = session_of(later)
    renew(world, later.pilot_id, session, grant)
    check_speaks_for(world.context, by(session), owner.pilot_id)
    report = success(grant, session)
    assert good(report_jobs(world.context, [report])[0]).state is JobState.FINISHED
    # The answer was lost on its way.
    assert good(report_jobs(world.context, [report])[0]).state is JobState.FINISHED
    deregister_pilot(world.context, owner.pilot_id, "a crash", by(session))


def test_a_pilot_that_has_ended_ends_no_other(world: World, owner: Pilot) -> None:
    gone = world.pilot(1)
    session = session_of(gone)
    deregister_pilot(world.context, gone.pilot_id, "done", by(session))
    with pytest.raises(ForbiddenError) as error:
        deregister_pilot(world.context, owner.pilot_id, "so there", by(session))
    assert error.value.reason == "NOT_YOUR_PILOT"
    # Its own goodbye may be repeated.
    deregister_pilot(world.context, gone.pilot_id, "done", by(session))


def test_in_the_name_of_others_a_pilot_takes_no_work_and_no_leave(
    world: World, owner: Pilot
) -> None:
    check_own_pilot(by(session_of(owner)), owner.pilot_id)
    check_own_pilot(LOCAL_OPERATOR, owner.pilot_id)
    later = session_of(world.pilot(1))
    for session in [*strangers(world), later]:
        with pytest.raises(ForbiddenError) as error:
            check_own_pilot(by(session), owner.pilot_id)
        assert error.value.reason == "NOT_YOUR_PILOT"
    for session in strangers(world):
        for call in (
            lambda caller: check_speaks_for(world.context, caller, owner.pilot_id),
            lambda caller: deregister_pilot(world.context, owner.pilot_id, "so there", caller),
            # It does not say whether there is such a pilot either.
            lambda caller: check_speaks_for(world.context, caller, "nobody"),
        ):
            with pytest.raises(ForbiddenError) as error:
                call(by(session))
            assert error.value.reason == "NOT_YOUR_PILOT"
    world.heartbeat(owner)


def test_without_a_session_only_operators_touch_leases() -> None:
    assert acting_session(LOCAL_OPERATOR) is None
    for person in (make_person(Role.PILOT), make_person(Role.USER), make_person(Role.SITE_ADMIN)):
        with pytest.raises(ForbiddenError):
            acting_session(person)
        with pytest.raises(ForbiddenError):
            check_own_pilot(person, "p")


def test_the_code_of_a_user_is_read_by_pilots_that_run_it(world: World, owner: Pilot) -> None:
    sandbox_id, _ = store_sandbox(world.context, [b"\x1f\x8b code"], LOCAL_OPERATOR)
    world.submit_jobs(1, sandbox_id=sandbox_id)

    def may_read(session: Session) -> bool:
        try:
            check_may_read(world.context, sandbox_id, by(session))
        except ForbiddenError as error:
            return error.reason != "NOT_YOUR_SANDBOX"
        return True

    assert not may_read(session_of(owner))
    grant = world.take(owner)
    assert may_read(session_of(owner))
    assert may_read(session_of(world.pilot(1)))
    assert not may_read(session_of(world.pilot(2)))
    check_may_read(world.context, sandbox_id, LOCAL_OPERATOR)
    world.finish(grant)
    assert not may_read(session_of(owner))


@pytest.mark.parametrize(
    "caller",
    [
        lambda key: by(Session("p", QUEUE, key)),
        lambda key: by(Session("", QUEUE, key)),
        lambda key: make_person(Role.SITE_ADMIN, sites=frozenset({key.site})),
        lambda _: LOCAL_OPERATOR,
    ],
    ids=["pilot", "tool", "administrator", "operator"],
)
def test_a_cache_is_described_by_its_node_and_those_who_look_after_the_site(
    caller: Callable[[NodeKey], Principal],
) -> None:
    check_cache(caller(node_key(1)), node_key(1))


@pytest.mark.parametrize(
    "caller",
    [
        by(Session("p", QUEUE, node_key(2))),
        by(Session("", QUEUE, node_key(2))),
        # The same name at another site is another node.
        by(Session("p", QUEUE, NodeKey("ELSEWHERE", node_key(1).node))),
        make_person(Role.SITE_ADMIN, sites=frozenset({"ELSEWHERE"})),
        make_person(Role.PILOT, sites=frozenset({SITE})),
        make_person(Role.USER),
    ],
    ids=["other node", "its tool", "other site", "other administrator", "no session", "user"],
)
def test_and_by_nobody_else(caller: Principal) -> None:
    with pytest.raises(ForbiddenError) as error:
        check_cache(caller, node_key(1))
    assert error.value.reason == "NOT_YOUR_NODE"
    assert error.value.metadata == {"site": SITE, "node": node_key(1).node}
