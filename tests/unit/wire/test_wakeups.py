"""Long polls are woken by new work, in order, and lose no wake-up."""

import asyncio
from datetime import timedelta

from pandawn_server.wire.wakeups import Wakeups

LONG = timedelta(minutes=5)
SHORT = timedelta(milliseconds=1)


async def waiting(wakeups: Wakeups, queue: str, count: int) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.create_task(wakeups.wait(queue, LONG)) for _ in range(count)]
    await asyncio.sleep(0)
    assert wakeups.waiting_queues()[queue] == count
    return tasks


async def test_a_wait_ends_at_its_time() -> None:
    wakeups = Wakeups()
    assert not await wakeups.wait("q", SHORT)
    assert not wakeups.waiting_queues()


async def test_a_notification_wakes_all_who_wait_for_that_queue_only() -> None:
    wakeups = Wakeups()
    here, there = await waiting(wakeups, "here", 3), await waiting(wakeups, "there", 1)
    wakeups.notify("here")
    assert await asyncio.gather(*here) == [True] * 3
    assert wakeups.waiting_queues() == {"there": 1}
    wakeups.notify("there")
    await asyncio.gather(*there)


async def test_one_job_wakes_whoever_has_waited_longest() -> None:
    wakeups = Wakeups()
    first, second = await waiting(wakeups, "q", 2)
    wakeups.notify("q", 1)
    assert await first
    assert not second.done()
    wakeups.notify("q", 1)
    assert await second


async def test_work_that_came_between_looking_and_waiting_is_not_missed() -> None:
    wakeups = Wakeups()
    seen = wakeups.generation("q")
    wakeups.notify("q")
    assert await wakeups.wait("q", LONG, since=seen)


async def test_without_news_a_wait_since_a_look_waits() -> None:
    wakeups = Wakeups()
    wakeups.notify("q")
    assert not await wakeups.wait("q", SHORT, since=wakeups.generation("q"))


async def test_a_wake_up_of_a_caller_who_just_left_goes_to_the_next() -> None:
    wakeups = Wakeups()
    gone, stays = await waiting(wakeups, "q", 2)
    wakeups.notify("q", 1)
    gone.cancel()
    assert await stays
    assert gone.cancelled() or (await asyncio.wait([gone]))


async def test_a_caller_who_leaves_is_no_longer_counted() -> None:
    wakeups = Wakeups()
    (task,) = await waiting(wakeups, "q", 1)
    task.cancel()
    await asyncio.wait([task])
    assert not wakeups.waiting_queues()


async def test_a_stop_ends_all_waits_and_lets_none_begin() -> None:
    wakeups = Wakeups()
    tasks = await waiting(wakeups, "q", 2)
    wakeups.close()
    assert await asyncio.gather(*tasks) == [False, False]
    assert not await wakeups.wait("q", LONG)


async def test_no_time_to_wait_means_no_wait() -> None:
    assert not await Wakeups().wait("q", timedelta(seconds=-1))
