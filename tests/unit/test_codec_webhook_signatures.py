"""Signatures of webhooks: as Standard Webhooks has them, and nothing that was tampered with passes."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from vedette.codec.webhook_signatures import new_secret, sign, signed_headers, verify
from vedette.core.errors import InvalidArgument, Unauthenticated

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
AT = 1614265330


def test_the_example_of_the_specification() -> None:
    """The published test vector."""
    assert sign(SECRET, ID, timestamp=AT, body=BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_fresh_signature_is_accepted_and_names_the_message() -> None:
    """Whatever the case of header names, with one secret or several."""
    secret, other = new_secret(), new_secret()
    headers = signed_headers([secret], ID, timestamp=AT, body=BODY)
    assert verify(secret, headers, BODY, now=AT) == ID
    assert verify([other, secret], {name.title(): text for name, text in headers.items()}, BODY, now=AT + 299.0) == ID


def test_while_a_secret_is_rotated_either_one_is_enough() -> None:
    """Both sign, separated by a space."""
    old, new = new_secret(), new_secret()
    headers = signed_headers([new, old], ID, timestamp=AT, body=BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        assert verify(secret, headers, BODY, now=AT) == ID


@pytest.mark.parametrize(
    ("change", "now"),
    [
        ({"webhook-id": "msg_other"}, AT),
        ({"webhook-id": ""}, AT),
        ({"webhook-timestamp": str(AT + 1)}, AT),
        ({"webhook-timestamp": "soon"}, AT),
        ({"webhook-timestamp": f"-{AT}"}, AT),
        ({"webhook-timestamp": "9" * 5_000}, AT),
        ({"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, AT),
        ({"webhook-signature": ""}, AT),
        ({"webhook-signature": "v1,"}, AT),
        ({"webhook-signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, AT),
        ({"webhook-signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, AT),
        ({"webhook-signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, AT),
        ({"webhook-signature": "v1,é" * 100}, AT),
        ({"webhook-signature": "v1,x " * 100_000}, AT),
        ({}, AT + 301),
        ({}, AT - 301),
    ],
)
def test_what_was_tampered_with_is_refused(change: dict[str, str], now: float) -> None:
    """Id, time, signature, or too long ago."""
    headers = signed_headers([SECRET], ID, timestamp=AT, body=BODY)
    with pytest.raises(Unauthenticated):
        verify(SECRET, headers | change, BODY, now=now)


@pytest.mark.parametrize("at", range(len(BODY)))
def test_no_byte_of_the_body_can_be_changed(at: int) -> None:
    """Nor added or left out."""
    headers = signed_headers([SECRET], ID, timestamp=AT, body=BODY)
    for body in (BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :], BODY[:at] + BODY[at + 1 :], BODY + b" "):
        with pytest.raises(Unauthenticated):
            verify(SECRET, headers, body, now=AT)


def test_another_secret_does_not_do() -> None:
    """Nor do missing headers."""
    headers = signed_headers([SECRET], ID, timestamp=AT, body=BODY)
    with pytest.raises(Unauthenticated):
        verify(new_secret(), headers, BODY, now=AT)
    for name in headers:
        with pytest.raises(Unauthenticated):
            verify(SECRET, {key: value for key, value in headers.items() if key != name}, BODY, now=AT)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_***", "whsec_" + "A" * 400, "whsec_MfKQ9r8G\n"])
def test_what_is_no_secret_is_refused(secret: str) -> None:
    """A short or empty key would sign anything for anybody."""
    with pytest.raises(InvalidArgument):
        sign(secret, ID, timestamp=AT, body=BODY)


def test_secrets_are_random_and_long() -> None:
    """256 bits, never the same."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in made} == {32}


def test_a_receiver_needs_nothing_but_the_standard_library() -> None:
    """It can check signatures without numpy or any client."""
    program = "import sys, vedette.codec.webhook_signatures; print(*{'numpy', 'httpx', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
