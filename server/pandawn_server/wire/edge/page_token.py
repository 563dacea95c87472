"""Page tokens: the position of the next page, bound to the call and filter they were made for.

A token is opaque to clients but not secret: a forged one only shows another page of what its owner may list
anyway. The digest prevents accidents, such as using the token of one filter with another.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from hashlib import blake2b

from pandawn_server.domain.errors import InvalidRequestError, Violation

KeyPart = int | str
"""One column of the last row's sort key; an integer has 64 bits."""

FilterPart = int | str | bool
"""One field of the request's filter; enums by number, repeated fields in a fixed order."""

# Increased when the format changes, so that a client with an older token gets a clear error.
_VERSION = b"\x01"
_DIGEST_BYTES = 8
_INTEGER_BYTES = 8
_LENGTH_BYTES = 4
# No sort key comes near this size; do not decode anything longer.
_MAX_TOKEN_CHARACTERS = 4096


def encode_page_token(rpc: str, filters: Sequence[FilterPart], key: Sequence[KeyPart]) -> str:
    """Makes the token for the page after the row with sort key `key`."""
    packed = b"".join(_pack(part) for part in key)
    shape = [type(part) for part in key]
    token = _VERSION + _digest(rpc, filters, shape, packed) + packed
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def decode_page_token(
    token: str, rpc: str, filters: Sequence[FilterPart], shape: Sequence[type[KeyPart]]
) -> tuple[KeyPart, ...] | None:
    """Returns the sort key in a token; None for an empty token, which means the first page.

    `shape` is the type of each part. Raises `InvalidRequestError` (INVALID_PAGE_TOKEN) if the token was not made
    by `encode_page_token` for the same call, filter and shape.
    """
    if not token:
        return None
    raw = _raw(token)
    if raw is None or raw[:1] != _VERSION:
        raise _invalid("was not made by this server; start again without it")
    digest, packed = raw[1 : 1 + _DIGEST_BYTES], raw[1 + _DIGEST_BYTES :]
    if digest != _digest(rpc, filters, shape, packed):
        raise _invalid("is damaged or belongs to another call or filter; start again without it")
    key = _unpack(packed, shape)
    if key is None:
        raise _invalid("was not made by this server; start again without it")
    return key


def _digest(
    rpc: str, filters: Sequence[FilterPart], shape: Sequence[type[KeyPart]], packed: bytes
) -> bytes:
    # JSON keeps 1, "1" and true apart, and separates the parts of the list.
    bound = json.dumps([rpc, list(filters), [kind.__name__ for kind in shape]]).encode()
    hashed = blake2b(len(bound).to_bytes(4, "big") + bound + packed, digest_size=_DIGEST_BYTES)
    return hashed.digest()


def _pack(part: KeyPart) -> bytes:
    if isinstance(part, int):
        return part.to_bytes(_INTEGER_BYTES, "big", signed=True)
    utf8 = part.encode()
    return len(utf8).to_bytes(_LENGTH_BYTES, "big") + utf8


def _unpack(packed: bytes, shape: Sequence[type[KeyPart]]) -> tuple[KeyPart, ...] | None:
    """The parts of a key; None if the bytes do not have exactly this shape, as in a forged token."""
    key: list[KeyPart] = []
    at = 0
    for kind in shape:
        size = _INTEGER_BYTES
        if kind is str:
            size = int.from_bytes(packed[at : at + _LENGTH_BYTES], "big")
            at += _LENGTH_BYTES
        part = packed[at : at + size]
        at += size
        if at > len(packed):
            return None
        if kind is int:
            key.append(int.from_bytes(part, "big", signed=True))
            continue
        try:
            text = part.decode()
        except UnicodeDecodeError:
            return None
        # PostgreSQL rejects it even in comparisons.
        if "\x00" in text:
            return None
        key.append(text)
    return tuple(key) if at == len(packed) else None


def _raw(token: str) -> bytes | None:
    if len(token) > _MAX_TOKEN_CHARACTERS:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    # The last character has unused bits: accept only the spelling that `encode_page_token` makes.
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == token else None


def _invalid(problem: str) -> InvalidRequestError:
    return InvalidRequestError.of([Violation("page_token", problem)], reason="INVALID_PAGE_TOKEN")
