"""Calls share batches without getting in each other's way."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from pandawn_server.domain.errors import NotFoundError, PandawnError, UnavailableError
from pandawn_server.wire.edge.batcher import Batcher, Batchers
from pandawn_server.wire.edge.runner import Runner


class UseCase:
    """Doubles numbers in batches that wait for `release`; remembers the batches it saw."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.most_running = 0
        self.fail: Callable[[Sequence[int]], None] = lambda _numbers: None
        self._gate = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, numbers: Sequence[int]) -> list[int | PandawnError]:
        with self._lock:
            self.batches.append(list(numbers))
            self.running += 1
            self.most_running = max(self.running, self.most_running)
        self._gate.acquire()
        with self._lock:
            self.running -= 1
        self.fail(numbers)
        return [NotFoundError("ODD", f"{n} is odd") if n % 2 else n * 2 for n in numbers]

    def release(self, batches: int = 1000) -> None:
        self._gate.release(batches)


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    """Threads that have all ended when the test has."""
    runner = Runner(4)
    yield runner
    await runner.close()


@pytest.fixture
def use_case() -> UseCase:
    return UseCase()


def submitted(batcher: Batcher[int, int], *numbers: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.submit(number)) for number in numbers]


async def seen(use_case: UseCase, batches: int) -> None:
    """Until the use case has begun so many batches."""
    while len(use_case.batches) < batches:  # noqa: ASYNC110 (it grows in another thread)
        await asyncio.sleep(0.001)


async def test_a_lone_call_goes_at_once_and_alone(runner: Runner, use_case: UseCase) -> None:
    use_case.release()
    assert await Batcher("double", use_case, runner).submit(4) == 8
    assert use_case.batches == [[4]]


async def test_a_caller_may_call_again_as_soon_as_it_is_answered(
    runner: Runner, use_case: UseCase
) -> None:
    use_case.release()
    batcher = Batcher("double", use_case, runner)
    async with asyncio.timeout(20):
        # No turn of the loop between the answer and the next call: a long poll does just that.
        assert [await batcher.submit(number) for number in (2, 4, 6)] == [4, 8, 12]


async def test_calls_that_come_together_go_together(runner: Runner, use_case: UseCase) -> None:
    use_case.release()
    tasks = submitted(Batcher("double", use_case, runner), 2, 4, 6)
    assert await asyncio.gather(*tasks) == [4, 8, 12]
    assert use_case.batches == [[2, 4, 6]]


async def test_calls_gather_while_a_batch_runs(runner: Runner, use_case: UseCase) -> None:
    batcher = Batcher("double", use_case, runner)
    first = submitted(batcher, 2)
    await seen(use_case, 1)
    rest = submitted(batcher, 4, 6, 8)
    await asyncio.sleep(0)
    use_case.release()
    assert await asyncio.gather(*first, *rest) == [4, 8, 12, 16]
    assert use_case.batches == [[2], [4, 6, 8]]


async def test_a_caller_that_asks_again_at_once_is_answered_again(
    runner: Runner, use_case: UseCase
) -> None:
    use_case.release()
    batcher = Batcher("double", use_case, runner)
    assert [await batcher.submit(number) for number in (2, 4, 6)] == [4, 8, 12]


async def test_a_batch_has_a_largest_size(runner: Runner, use_case: UseCase) -> None:
    use_case.release()
    batcher = Batcher("double", use_case, runner, max_batch=2)
    await asyncio.gather(*submitted(batcher, 2, 4, 6, 8, 10))
    assert use_case.batches == [[2, 4], [6, 8], [10]]


async def test_no_more_batches_run_at_a_time_than_allowed(
    runner: Runner, use_case: UseCase
) -> None:
    batcher = Batcher("double", use_case, runner, max_batch=1, concurrency=2)
    tasks = submitted(batcher, 2, 4, 6, 8)
    await seen(use_case, 2)
    use_case.release()
    await asyncio.gather(*tasks)
    assert use_case.most_running == 2


async def test_an_error_in_an_answer_reaches_its_caller_only(
    runner: Runner, use_case: UseCase
) -> None:
    use_case.release()
    good, bad = submitted(Batcher("double", use_case, runner), 2, 3)
    assert await good == 4
    with pytest.raises(NotFoundError, match="3 is odd"):
        await bad
    assert len(use_case.batches) == 1


async def test_a_foreseen_error_of_the_batch_reaches_all(runner: Runner, use_case: UseCase) -> None:
    def away(_numbers: Sequence[int]) -> None:
        raise UnavailableError("DATABASE_UNAVAILABLE", "away")

    use_case.fail = away
    use_case.release()
    tasks = submitted(Batcher("double", use_case, runner), 2, 4)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, UnavailableError)
    assert len(use_case.batches) == 1


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("poison"), UnavailableError("DATABASE_CONFLICT", "lost a race")],
    ids=["unforeseen", "conflict"],
)
async def test_a_poison_request_fails_alone(
    runner: Runner, use_case: UseCase, error: Exception
) -> None:
    def poisoned(numbers: Sequence[int]) -> None:
        if 6 in numbers:
            raise error

    use_case.fail = poisoned
    use_case.release()
    tasks = submitted(Batcher("double", use_case, runner), 2, 6, 8)
    assert await asyncio.gather(*tasks, return_exceptions=True) == [4, error, 16]
    assert use_case.batches == [[2, 6, 8], [2], [6], [8]]


async def test_a_wrong_number_of_answers_is_an_error_and_no_mix_up(runner: Runner) -> None:
    batcher: Batcher[int, int] = Batcher("none", lambda _numbers: [], runner)
    with pytest.raises(RuntimeError, match="0 answers to 1 request"):
        await batcher.submit(1)


async def test_a_caller_who_leaves_before_its_batch_is_left_out(
    runner: Runner, use_case: UseCase
) -> None:
    batcher = Batcher("double", use_case, runner)
    first = submitted(batcher, 2)
    await seen(use_case, 1)
    gone, stays = submitted(batcher, 4, 6)
    await asyncio.sleep(0)
    gone.cancel()
    use_case.release()
    assert await asyncio.gather(*first, stays) == [4, 12]
    assert use_case.batches == [[2], [6]]


async def test_a_caller_who_leaves_during_its_batch_harms_nobody(
    runner: Runner, use_case: UseCase
) -> None:
    gone, stays = submitted(Batcher("double", use_case, runner), 4, 6)
    await seen(use_case, 1)
    gone.cancel()
    use_case.release()
    assert await stays == 12
    assert use_case.batches == [[4, 6]]


async def test_closing_answers_all_that_came_before(runner: Runner, use_case: UseCase) -> None:
    batcher = Batcher("double", use_case, runner, max_batch=1)
    tasks = submitted(batcher, 2, 4, 6)
    await seen(use_case, 1)
    closing = asyncio.create_task(batcher.close())
    use_case.release()
    await closing
    assert [task.result() for task in tasks] == [4, 8, 12]


async def test_a_closed_batcher_refuses_calls(runner: Runner, use_case: UseCase) -> None:
    batchers = Batchers(runner)
    batcher = batchers.make("double", use_case)
    await batchers.close()
    with pytest.raises(UnavailableError) as refused:
        await batcher.submit(2)
    assert refused.value.reason == "SHUTTING_DOWN"


async def test_a_second_batch_begins_beside_the_first_when_a_crowd_waits(
    runner: Runner, use_case: UseCase
) -> None:
    batcher = Batcher("double", use_case, runner, concurrency=2, crowd=3)
    first = submitted(batcher, 2)
    await seen(use_case, 1)
    waiting = submitted(batcher, 4, 6)
    await asyncio.sleep(0)
    assert len(use_case.batches) == 1
    waiting += submitted(batcher, 8)
    await seen(use_case, 2)
    assert use_case.batches == [[2], [4, 6, 8]]
    use_case.release()
    assert await asyncio.gather(*first, *waiting) == [4, 8, 12, 16]


async def test_those_who_are_no_crowd_go_when_the_batch_before_them_is_done(
    runner: Runner, use_case: UseCase
) -> None:
    batcher = Batcher("double", use_case, runner, concurrency=2, crowd=3)
    calls = submitted(batcher, 2)
    await seen(use_case, 1)
    calls += submitted(batcher, 4, 6)
    use_case.release()
    assert await asyncio.gather(*calls) == [4, 8, 12]
    assert use_case.batches == [[2], [4, 6]]
