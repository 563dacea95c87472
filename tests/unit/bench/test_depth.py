from collections.abc import Iterable, Sequence

import pytest

from pandawn_tools.bench.depth import DepthKeeper
from pandawn_tools.bench.processes import BenchError
from pandawn_tools.bench.rows import Pool, Table

POOL = Pool("DEPTH", 0, depth=490, reserve=10)


class FakeDatabase:
    """Remembers which jobs were made runnable."""

    name = "fake"
    url = ""
    release_period_s = 0.001

    def __init__(self, problem: Exception | None = None) -> None:
        self.released: list[int] = []
        self._problem = problem

    def fill(self, tables: Iterable[Table]) -> None:
        raise NotImplementedError

    def release(self, job_ids: Sequence[int]) -> None:
        if self._problem:
            raise self._problem
        self.released += job_ids

    def leased(self) -> set[int]:
        return set()

    def attempts(self) -> int:
        return 0

    def version(self) -> str:
        return ""

    def close(self) -> None:
        pass


def test_one_job_becomes_runnable_for_each_that_was_taken() -> None:
    database = FakeDatabase()
    keeper = DepthKeeper(database, POOL)

    with keeper.keeping():
        for _ in range(7):
            keeper.took_one()
    with keeper.keeping():
        keeper.took_one()

    assert database.released == list(range(491, 499))


def test_a_reserve_that_does_not_last_is_an_error() -> None:
    keeper = DepthKeeper(FakeDatabase(), POOL)

    def take_all_and_one_more() -> None:
        with keeper.keeping():
            for _ in range(11):
                keeper.took_one()

    with pytest.raises(BenchError, match="did not last"):
        take_all_and_one_more()


def test_an_error_of_the_database_ends_the_measurement() -> None:
    keeper = DepthKeeper(FakeDatabase(ConnectionError("gone")), POOL)

    with pytest.raises(ConnectionError), keeper.keeping():
        keeper.took_one()
