"""Signatures of webhooks after the Standard Webhooks specification: made by the monitor, checked by receivers.

Rule: the standard library alone, and comparisons in constant time, so that a receiver can take this file as it is.

A signature is `v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`; the header
`webhook-signature` holds one for each secret in force, separated by spaces. Secrets are `whsec_` and base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

from vedette.core.errors import InvalidArgument, Unauthenticated

TOLERANCE_S = 300.0
"""How far the time of a message may be from the receiver's clock, either way."""
_PREFIX = "whsec_"
_MIN_SECRET_BYTES, _SECRET_BYTES, _MAX_SECRET_BYTES = 24, 32, 64
_MAX_SIGNATURES = 16


def new_secret() -> str:
    """A fresh signing secret of 256 random bits."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret: str, message_id: str, *, timestamp: int, body: bytes) -> str:
    """One signature, `v1,<base64>`. `InvalidArgument` for what is no secret."""
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def signed_headers(secrets_in_force: Sequence[str], message_id: str, *, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of one attempt to send `body`."""
    signatures = [sign(secret, message_id, timestamp=timestamp, body=body) for secret in secrets_in_force]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Check a message as it arrived and return its webhook-id, by which repeats are told.

    `body` is the raw body; the case of header names does not matter. Give two secrets while one is replaced.

    Raises:
        Unauthenticated: a header is missing or malformed, the message is too old or from the future, or no
            signature is by one of the secrets.
        InvalidArgument: what was given as secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message_id, moment, signatures = (given.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    if not message_id or not signatures or not (moment.isascii() and moment.isdigit() and len(moment) <= 12):
        raise Unauthenticated("the headers webhook-id, webhook-timestamp and webhook-signature are needed")
    if abs(now - int(moment)) > tolerance_s:
        raise Unauthenticated("the time of the message is too far from now")
    wanted = [
        sign(one, message_id, timestamp=int(moment), body=body).encode()
        for one in ([secret] if isinstance(secret, str) else secret)
    ]
    found = [text.encode() for text in signatures.split(" ")[:_MAX_SIGNATURES]]
    # All pairs are compared, so that time says nothing about which one matched.
    matches = [hmac.compare_digest(expected, signature) for expected in wanted for signature in found]
    if not any(matches):
        raise Unauthenticated("no signature of the message is by a known secret")
    return message_id


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise InvalidArgument("a signing secret is whsec_ and the base64 of 24 to 64 bytes")
    return key
