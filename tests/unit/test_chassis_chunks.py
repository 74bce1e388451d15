"""Chunked bodies, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.chassis.chunks import ChunkDecoder
from vedette.core.errors import InvalidArgument


def encoded(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(1, 7), max_size=60), st.binary())
def test_any_cut_gives_the_same_body(chunks: list[bytes], cuts: list[int], behind: bytes) -> None:
    """However the bytes arrive, the body is the chunks' and what follows is left over."""
    raw, decoder, got, position = encoded(chunks) + behind, ChunkDecoder(), b"", 0
    for cut in (*cuts, len(raw)):
        if decoder.done:
            break
        got += decoder.feed(raw[position : position + cut])
        position = min(len(raw), position + cut)
    while not decoder.done:
        got += decoder.feed(raw[position : position + 1])
        position += 1
    assert got == b"".join(chunks)
    assert decoder.rest + raw[position:] == behind


@pytest.mark.parametrize(
    "raw",
    [b"zz\r\n", b"0x1\r\na\r\n", b"-1\r\n", b"1\r\nab\r\n", b"1\r\na\n", b"0\r\nX: y\r\n\r\n", b"1" * 300, b"\r\n",
     b"1;\0\r\n", b" 1\r\n", b"1\ra\r\n", b"f" * 16 + b"\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 1000])
def test_broken_framing_is_refused(raw: bytes, step: int) -> None:
    """Sizes that are none, chunks without an end, trailers; also byte by byte."""
    decoder = ChunkDecoder()

    def feed() -> None:
        for position in range(0, len(raw), step):
            decoder.feed(raw[position : position + step])

    with pytest.raises(InvalidArgument):
        feed()


def test_extensions_are_passed_over() -> None:
    """What follows a size behind a semicolon means nothing to us."""
    decoder = ChunkDecoder()
    assert decoder.feed(b"3;a=b\r\nabc\r\n0;end\r\n\r\n") == b"abc"
    assert decoder.done
