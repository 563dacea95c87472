"""The interface for measurements. `Telemetry` itself measures nothing: it is what runs when telemetry is off.

`telemetry.otlp` has the implementation that exports. The composition of the server chooses one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from pandawn_server.telemetry.names import Counter, Distribution, Gauge, Operation

AttributeValue = str | int | float
"""Values of attributes."""

Attributes = Mapping[str, AttributeValue]
"""Attributes by name."""

Carrier = Sequence[tuple[str, str | bytes]]
"""Metadata of a call, which may carry the caller's trace."""

NO_ATTRIBUTES: Attributes = {}
"""No attributes."""


class SpanRef:
    """Identifies a span, so that another can follow from it."""

    __slots__ = ()


class Observation:
    """One run of an operation: use it as a context manager, or call `begin` and `end`.

    It belongs to the thread or task that began it; operations that start meanwhile in the same context become
    its children.
    """

    __slots__ = ()

    def begin(self) -> None:
        """Starts the operation."""

    def set(self, name: str, value: AttributeValue) -> None:
        """Sets an attribute that only becomes known during the operation."""

    def fail(self, error_type: str) -> None:
        """Marks the operation as failed, with an error class or a status code."""

    def end(self) -> None:
        """Ends the operation."""

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error_type is not None:
            self.fail(error_type.__name__)
        self.end()


_NOTHING = Observation()


class Telemetry:
    """Measures nothing; each call returns at once."""

    enabled = False
    """Whether anything is measured, so that hot paths can skip the preparation."""

    def observe(
        self,
        operation: Operation,
        name: str,
        attributes: Attributes = NO_ATTRIBUTES,
        *,
        carrier: Carrier | None = None,
        causes: Sequence[SpanRef | None] = (),
    ) -> Observation:
        """Prepares the observation of an operation; `name` is the span's, from a small set.

        The span's parent is the one in `carrier`, else the only one of `causes`, else the current span of this
        context. It is linked to all `causes`.
        """
        del operation, name, attributes, carrier, causes
        return _NOTHING

    def here(self) -> SpanRef | None:
        """The current span of this context, for use as a cause."""
        return None

    def count(
        self, counter: Counter, amount: int = 1, attributes: Attributes = NO_ATTRIBUTES
    ) -> None:
        """Adds to a counter."""

    def record(
        self, distribution: Distribution, value: float, attributes: Attributes = NO_ATTRIBUTES
    ) -> None:
        """Adds a value to a distribution."""

    def watch(self, gauge: Gauge, read: Callable[[], Iterable[tuple[float, Attributes]]]) -> None:
        """Calls `read`, from another thread, whenever metrics are exported."""

    def close(self) -> None:
        """Sends what is left, within a few seconds."""


OFF = Telemetry()
"""No telemetry."""
