"""Talks to the server with the client library, and says in the user's words what goes wrong."""

# grpc's classes are generic in their type stubs only.
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import grpc
from google.protobuf.message import Message

import pandawn_client.client
from pandawn_client.calls import check_size as check_message_size
from pandawn_client.channel import MAX_MESSAGE_BYTES
from pandawn_client.client import CALL_TIMEOUT_SECONDS, new_request_id
from pandawn_client.credentials import NOTHING, Credentials
from pandawn_client.pages import PageT, RowT, read_pages
from pandawn_client.policy import COMMAND, FOLLOWER, Patience
from pandawn_client.refusals import CallError
from pandawn_client.tls_trouble import find_trouble
from pandawn_tools.cli.errors import CliError, usage_error
from pandawn_tools.cli.remote import to_cli_error
from pandawn_tools.cli.render import note
from pandawn_tools.cli.settings import Address
from pandawn_tools.cli.units import format_size

__all__ = ["COMMAND", "FOLLOWER", "Client", "check_size", "new_request_id"]

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Client(pandawn_client.client.Client):
    """A connection to one server, for a command: what fails is a `CliError`.

    `say` may be exchanged while the screen is drawn by others.
    """

    def __init__(
        self,
        address: Address,
        *,
        credentials: Credentials = NOTHING,
        patience: Patience = COMMAND,
        say: Callable[[str], None] = note,
    ) -> None:
        super().__init__(address.target, credentials=credentials, patience=patience, say=say)
        self.address = address

    def call(
        self, method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """See the library. Raises CliError."""
        check_size(request)
        try:
            return super().call(method, request)
        except CallError as failure:
            raise self._failed(failure, _call_name(type(request))) from failure

    def upload(
        self,
        method: grpc.StreamUnaryMultiCallable[Request, Response],
        requests: Callable[[], Iterator[Request]],
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> Response:
        """See the library. Raises CliError."""
        try:
            return super().upload(method, requests, timeout_seconds)
        except CallError as failure:
            raise self._failed(failure, "the upload") from failure

    def follow(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        resume: Callable[[], Request],
    ) -> Iterator[Response]:
        """See the library. Raises CliError."""
        try:
            yield from super().follow(method, resume)
        except CallError as failure:
            raise self._failed(failure, _call_name(type(resume()))) from failure

    def pages(
        self,
        fetch: Callable[[str, int], PageT],
        rows: Callable[[PageT], Sequence[RowT]],
        *,
        limit: int | None,
        page_size: int = 1000,
    ) -> tuple[list[RowT], bool]:
        """Reads pages until `limit` rows are there; tells also whether there are more.

        `fetch` gets a page token and a page size; `rows` takes the rows out of a page.
        """
        return read_pages(fetch, rows, limit=limit, page_size=page_size)

    def _failed(self, failure: CallError, name: str) -> CliError:
        trouble = None
        if failure.is_out_of_reach:
            trouble = find_trouble(self.server, self.credentials)
        return to_cli_error(failure, name, self.address, trouble)


def check_size(request: Message) -> None:
    """Raises `CliError` for a request that the server would refuse for its size."""
    try:
        check_message_size(request)
    except CallError as error:
        raise usage_error(
            "REQUEST_TOO_LARGE",
            f"the request is {format_size(request.ByteSize())}, and the server takes "
            f"{format_size(MAX_MESSAGE_BYTES)} at most",
            details=["nothing was sent"],
            remedies=["split it: for a task, shorter file lists; for a cache, fewer files a call"],
        ) from error


def _call_name(request: type[Message]) -> str:
    return request.DESCRIPTOR.name.removesuffix("Request")
