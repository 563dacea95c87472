"""Reads lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

# Rows per request.
PAGE_SIZE = 1000

RowT = TypeVar("RowT")


class Page(Protocol):
    """A response of a list call."""

    @property
    def next_page_token(self) -> str:
        """Token of the next page; empty on the last page."""
        ...


PageT = TypeVar("PageT", bound=Page)


def iterate(
    fetch: Callable[[str, int], PageT],
    rows: Callable[[PageT], Sequence[RowT]],
    page_size: int = PAGE_SIZE,
) -> Iterator[RowT]:
    """Yields all rows; fetches a page when the previous one is consumed.

    `fetch` gets a page token and a page size; `rows` returns the rows of a page.
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
    """Reads up to `limit` rows (None: all); returns them, and whether there are more."""
    found: list[RowT] = []
    token = ""
    while True:
        wanted = page_size if limit is None else min(page_size, limit - len(found))
        page = fetch(token, wanted)
        found += rows(page)
        token = page.next_page_token
        if not token or (limit is not None and len(found) >= limit):
            return found, bool(token)
