r"""Distinguished names as text, in the form of the grid: /DC=org/DC=example/CN=Jane Doe.

The text is made from the parsed name and never parsed again. Characters that mark structure are escaped inside
values, so a CN of `x/CN=admin` stays one part: `/CN=x\/CN=admin`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

_NAMES: Mapping[ObjectIdentifier, str] = {
    NameOID.COMMON_NAME: "CN",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STREET_ADDRESS: "street",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.GIVEN_NAME: "GN",
    NameOID.SURNAME: "SN",
    NameOID.TITLE: "title",
}
"""Short names as OpenSSL prints them; other attributes are written by number."""

_STRUCTURE = frozenset("/+\\")


def shown_name(name: x509.Name) -> str:
    """The name as text; two different names never look the same."""
    return "".join("/" + "+".join(map(_part, rdn)) for rdn in name.rdns)


def common_name(name: x509.Name) -> str:
    """The last CN, which identifies a person; empty if there is none."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[-1].value) if found else ""


def _part(attribute: x509.NameAttribute[str | bytes]) -> str:
    kind = _NAMES.get(attribute.oid, attribute.oid.dotted_string)
    value = attribute.value
    # Only bit strings (x500UniqueIdentifier) are bytes; RFC 4514 marks them with `#`.
    return f"{kind}={_escaped(value) if isinstance(value, str) else '#' + value.hex()}"


def _escaped(value: str) -> str:
    return "".join(_visible(char) for char in value)


def _visible(char: str) -> str:
    if char in _STRUCTURE:
        return "\\" + char
    # Control characters, and those that reverse or hide the text around them.
    if unicodedata.category(char)[0] == "C" or (char.isspace() and char != " "):
        return "".join(f"\\x{byte:02x}" for byte in char.encode(errors="surrogatepass"))
    return char
