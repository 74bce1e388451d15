"""As much of HTTP/2 as a load generator of unary gRPC calls needs: one connection, many streams, no library.

Written for `loadtests.arrivals`, where a gRPC client library would be slower than the servers that are measured. Frames
are those of RFC 9113, headers are written without compression (RFC 7541, literals), and those of answers are not read:
an answer is right when its stream ends with as many bytes of data as the right message has. An error has fewer.
"""

from __future__ import annotations

import socket

from loadtests.generators import FRAME_BYTES, BrokenRun

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW, MAX_STREAMS, DEFAULT_WINDOW, LARGEST_WINDOW = 4, 3, 65_535, 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame on the wire."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def header_block(port: int, path: str) -> bytes:
    """The headers of a gRPC call, every one a literal that leaves the peer's table alone (RFC 7541, 6.2.2)."""

    def literal(index: bytes, value: str) -> bytes:
        return index + bytes((len(value),)) + value.encode()

    return b"".join((
        b"\x83\x86",  # :method POST, :scheme http
        literal(b"\x04", path),  # :path
        literal(b"\x01", f"127.0.0.1:{port}"),  # :authority
        literal(b"\x0f\x10", "application/grpc"),  # content-type
        literal(b"\x00\x02te", "trailers"),
    ))  # fmt: skip


class GrpcWire:
    """Calls of one method with one message, each on a stream of its own."""

    def __init__(self, port: int, path: str, message: bytes, answer_bytes: int) -> None:
        self._headers = header_block(port, path)
        self._data = b"\0" + len(message).to_bytes(4, "big") + message
        self._expected = FRAME_BYTES + answer_bytes
        self._stream, self._open = 1, {}  # type: int, dict[int, list[int]]
        self._window, self._most = DEFAULT_WINDOW, 100
        self._received, self._unsent = b"", b""
        if len(self._data) > 16_384:
            raise BrokenRun("a message of more than one frame")
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        credit = (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")
        settings = INITIAL_WINDOW.to_bytes(2, "big") + LARGEST_WINDOW.to_bytes(4, "big")
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, credit))
        self._socket.setblocking(False)

    def ready(self) -> bool:
        """Whether the server lets one more call in."""
        return self._window >= len(self._data) and len(self._open) < self._most and not self._unsent

    def send(self, number: int) -> None:
        """Send a call under this number."""
        stream, self._stream = self._stream, self._stream + 2
        self._open[stream] = [number, 0]
        self._window -= len(self._data)
        self._write(frame(HEADERS, END_HEADERS, stream, self._headers) + frame(DATA, END_STREAM, stream, self._data))

    def answered(self) -> list[int]:
        """The numbers that were answered since the last call.

        Raises:
            BrokenRun: an answer was an error, or the server hung up.
        """
        if self._unsent:
            self._write(b"")
        try:
            received = self._socket.recv(262_144)
        except BlockingIOError:
            return []
        if not received:
            raise BrokenRun("the server hung up")
        return self._read(self._received + received)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _write(self, content: bytes) -> None:
        content = self._unsent + content
        try:
            self._unsent = content[self._socket.send(content) :]
        except BlockingIOError:
            self._unsent = content

    def _read(self, buffer: bytes) -> list[int]:
        """Handle every whole frame and keep the rest."""
        done, at, end = [], 0, len(buffer)
        while end - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if end - at < 9 + length:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            if stream and kind in (DATA, HEADERS):
                call = self._open[stream]
                call[1] += length if kind == DATA else 0
                if flags & END_STREAM:
                    done.append(self._finished(stream))
            else:
                self._control(kind, flags, stream, buffer[at + 9 : at + 9 + length])
            at += 9 + length
        self._received = buffer[at:]
        return done

    def _finished(self, stream: int) -> int:
        number, received = self._open.pop(stream)
        if received < self._expected:
            raise BrokenRun(f"an answer of {received} bytes instead of {self._expected}: an error")
        return number

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                if int.from_bytes(payload[at : at + 2], "big") == MAX_STREAMS:
                    self._most = int.from_bytes(payload[at + 2 : at + 6], "big")
            self._write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            raise BrokenRun(f"the server ended a call or the connection: frame {kind}, {payload.hex()}")
