"""Whatever an error says, its trailers are small enough for every client."""

from hypothesis import given
from hypothesis import strategies as st

from pandawn_server.domain.errors import InvalidRequestError, NotFoundError, Violation
from pandawn_server.wire.edge.errors import Refusal, refusal_of

# What most gRPC libraries accept of headers or trailers together.
CLIENT_LIMIT_BYTES = 8 * 1024
# HTTP/2 counts so much for each entry on top of its name and value.
ENTRY_OVERHEAD_BYTES = 32

TEXTS = st.text(st.characters(codec="utf-8"), max_size=3000)
VIOLATIONS = st.lists(st.builds(Violation, TEXTS, TEXTS), min_size=1, max_size=80)


def size_on_the_wire(refusal: Refusal) -> int:
    message = "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else "%00"
        for byte in refusal.message.encode()
    )
    entries = [("grpc-status", 2), ("grpc-message", len(message))]
    # Binary values travel as base64.
    entries += [
        (name, -(-len(value) // 3) * 4 if isinstance(value, bytes) else len(value))
        for name, value in refusal.trailers
    ]
    return sum(len(name) + size + ENTRY_OVERHEAD_BYTES for name, size in entries)


@given(VIOLATIONS)
def test_trailers_of_a_malformed_request_fit(violations: list[Violation]) -> None:
    assert size_on_the_wire(refusal_of(InvalidRequestError.of(violations))) <= CLIENT_LIMIT_BYTES


@given(TEXTS, st.dictionaries(st.sampled_from(["queue", "node", "user"]), TEXTS))
def test_trailers_of_any_other_error_fit(message: str, metadata: dict[str, str]) -> None:
    error = NotFoundError("QUEUE_NOT_FOUND", message, metadata=metadata)
    assert size_on_the_wire(refusal_of(error)) <= CLIENT_LIMIT_BYTES
