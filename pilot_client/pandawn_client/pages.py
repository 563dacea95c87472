"""Lists come in pages: reads them one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

# Rows that are asked for at a time.
PAGE_SIZE = 1000

RowT = TypeVar("RowT")


class Page(Protocol):
    """What each reply of a list has."""

    @property
    def next_page_token(self) -> str:
        """Token of the next page, empty for the last."""
        ...


PageT = TypeVar("PageT", bound=Page)


def iterate(
    fetch: Callable[[str, int], PageT],
    rows: Callable[[PageT], Sequence[RowT]],
    page_size: int = PAGE_SIZE,
) -> Iterator[RowT]:
    """Yields all rows; asks for a page when the one before it is used up.

    `fetch` gets a page token and a page size; `rows` takes the rows out of a page.
    """
    token = ""
    while True:
        page = fetch(token, page_size)
        yield from rows(page)
        token = page.next_page_token
        if not token:
            return


def read_pages(
    fetch: Callable[[str, int], PageT],
    rows: Callable[[PageT], Sequence[RowT]],
    *,
    limit: int | None,
    page_size: int = PAGE_SIZE,
) -> tuple[list[RowT], bool]:
    """Reads pages until `limit` rows are there (None: all); tells also whether there are more."""
    found: list[RowT] = []
    token = ""
    while True:
        wanted = page_size if limit is None else min(page_size, limit - len(found))
        page = fetch(token, wanted)
        found += rows(page)
        token = page.next_page_token
        if not token or (limit is not None and len(found) >= limit):
            return found, bool(token)
