"""Sending again: only what certainly did not run, or what may be done twice."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from tests.unit.sdk_suite import FakeSuite

import vedette
from vedette.sdk.failures import error_from_response
from vedette.sdk.retries import Outcome, Retries
from vedette.sdk.sync.connection import Call, Connection

QUICK = Retries(attempts=3, backoff_s=0.001)


def connection(handler: Callable[[httpx.Request], httpx.Response], retries: Retries = QUICK) -> Connection:
    """A connection whose network is a function."""
    return Connection("http://x", timeout_s=1.0, retries=retries, transport=httpx.MockTransport(handler))


def refusing(status: int, headers: dict[str, str] | None = None, *, times: int) -> tuple[list[str], Callable]:
    """A server that refuses some times and then answers; the list fills with what arrived."""
    seen: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(status, headers=headers) if len(seen) <= times else httpx.Response(200)

    return seen, handler


@pytest.mark.parametrize(
    ("method", "status", "sent"),
    [("GET", 503, 2), ("GET", 429, 2), ("POST", 429, 2), ("POST", 503, 1), ("GET", 500, 1), ("PUT", 503, 2)],
)
def test_what_is_sent_again(method: str, status: int, sent: int) -> None:
    """A POST goes again after 429, where nothing ran, and not after 503, where something may have."""
    seen, handler = refusing(status, times=1)
    try:
        connection(handler).send(Call(method, "/"))
        answered = True
    except vedette.VedetteError:
        answered = False
    assert len(seen) == sent
    assert answered is (sent == 2)


def test_attempts_come_to_an_end() -> None:
    """A server that stays busy is not asked for ever."""
    seen, handler = refusing(429, times=99)
    with pytest.raises(vedette.Overloaded):
        connection(handler).send(Call("GET", "/"))
    assert len(seen) == 3


def test_no_connection_is_always_tried_again_and_told_with_the_address() -> None:
    """Nothing was sent, so nothing ran; the message says where nobody answered."""
    seen: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(1)
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(vedette.Unavailable, match=r"nothing answers at http://x.*vedette up"):
        connection(handler).send(Call("POST", "/", again=False))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ReadTimeout, vedette.DeadlineExceeded),
        (httpx.RemoteProtocolError, vedette.Unavailable),
        (httpx.ReadError, vedette.Unavailable),
    ],
)
def test_a_request_that_got_no_answer_may_have_run(error: type[httpx.TransportError], kind: type[Exception]) -> None:
    """Broken off after sending: not sent again, whatever the method."""
    seen: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(1)
        raise error("gone", request=request)

    with pytest.raises(kind):
        connection(handler).send(Call("GET", "/"))
    assert len(seen) == 1


def test_retry_after_is_honoured_up_to_a_limit() -> None:
    """The server's own figure wins; one that asks for more patience than there is ends it at once."""
    retries = Retries(attempts=5, backoff_s=0.5, longest_wait_s=2.0)
    assert retries.wait_s(Outcome.REFUSED, attempt=1, idempotent=False, retry_after="2") == 2.0
    assert retries.wait_s(Outcome.REFUSED, attempt=1, idempotent=False, retry_after="3") is None
    assert retries.wait_s(Outcome.REFUSED, attempt=5, idempotent=False, retry_after="0") is None


def test_waits_grow_and_differ_between_clients() -> None:
    """Half to all of a step that doubles, never over the longest wait; a date as Retry-After counts as none."""
    retries = Retries(attempts=9, backoff_s=0.1, longest_wait_s=0.5)
    for attempt, step in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.5), (8, 0.5)):
        date = "Wed, 21 Oct 2026 07:28:00 GMT"
        waits = {
            retries.wait_s(Outcome.NOT_READY, attempt=attempt, idempotent=True, retry_after=date) for _ in range(20)
        }
        assert all(step / 2 <= wait <= step for wait in waits if wait is not None)
        assert len(waits) > 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (404, b'{"code": "not_found", "detail": "no model", "status": 404}', vedette.NotFound, "no model"),
        (409, b'{"code": "already_exists", "detail": "taken"}', vedette.AlreadyExists, "taken"),
        (409, b'{"detail": "deployed"}', vedette.Conflict, "deployed"),
        (400, b'{"error": "wrong shape"}', vedette.InvalidArgument, "wrong shape"),
        (413, b"{}", vedette.TooLarge, "HTTP 413"),
        (422, b'{"title": "Unprocessable"}', vedette.InvalidArgument, "Unprocessable"),
        (500, b'{"error": "id 7"}', vedette.Internal, "id 7"),
        (501, b'{"error": "no shared memory"}', vedette.Unimplemented, "no shared memory"),
        (502, b"<html>Bad Gateway</html>", vedette.Unavailable, "HTTP 502: <html>Bad Gateway"),
        (504, b"", vedette.DeadlineExceeded, "HTTP 504: no text"),
        (400, b'{"code": "no such code", "detail": 3, "error": "e"}', vedette.InvalidArgument, "e"),
        (503, b"[" * 100_000, vedette.Unavailable, "HTTP 503"),
        (302, b"", vedette.InvalidArgument, "HTTP 302"),
    ],
)
def test_answers_become_errors_by_code_and_else_by_status(status: int, body: bytes, kind: type, text: str) -> None:
    """Both shapes of error, and what a proxy says, end in the same tree."""
    error = error_from_response(status, body)
    assert type(error) is kind
    assert text in error.message


def test_a_body_in_parts_is_made_anew_for_each_attempt() -> None:
    """An upload that was refused once arrives whole the second time."""
    suite, chunks = FakeSuite(failures=[(503, {"retry-after": "0"}, b"")]), [b"ab", b"cd"]
    call = Call("PUT", "/v1/uploads/u0/files/f", stream=lambda: iter(chunks))
    suite.uploads["u0"] = {}
    connection(suite.answer).send(call)
    assert [asked.body for asked in suite.asked] == [b"abcd", b"abcd"]


@pytest.mark.parametrize("address", ["ftp://x", "http://", "http://[::1", "not an address"])
def test_an_address_must_be_one(address: str) -> None:
    """A slip in an address is said when the client is made, not at its first use."""
    with pytest.raises(vedette.InvalidArgument, match="is not an address"):
        vedette.Client(address)


def test_proxies_of_the_environment_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's HTTP_PROXY does not come between a client and its own servers."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    from tests.unit.sdk_suite import serving

    with serving(FakeSuite()) as address, vedette.Client(address, address) as client:
        assert client.ready()
