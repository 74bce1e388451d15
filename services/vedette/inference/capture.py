"""The records of sampled requests on their way to the metrics stream.

A request appends one tuple to the list of its variant (`Lane`), or counts a drop. A background task takes what has
gathered, has a thread make messages of it, and publishes them together: one commit for many requests. In strict mode
room is reserved before the model runs and the answer waits for that commit.

Every sampled request ends as exactly one of captured (on the stream), dropped (there was no room for it) or failed
(there was room, but it did not get there), and each of the three uses up one of the producer's numbers.

Rule: nothing here raises into a best-effort request, and memory is bounded: in records and in bytes, those being
written included.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from vedette.codec.binary import byte_size
from vedette.core.errors import CaptureFailed, Overloaded, TooLarge, Unavailable, VedetteError
from vedette.core.events import Message
from vedette.core.metrics import Counter, Metrics
from vedette.core.ports import EventStream
from vedette.core.tensors import InferRequest, InferResponse
from vedette.inference.producer import Producer
from vedette.inference.records import Head, Part, Record, Source, message_of, new_life, parts_of, size_of
from vedette.inference.sampling import Kept

log = logging.getLogger(__name__)

AGE_S = 0.2
"""How long records gather before they are published."""
_EAGER_BYTES = 4 << 20
"""So many bytes are published before they have that age."""
_GROUP_BYTES = 8 << 20
"""Records that one publish takes."""
_LARGEST = 16 << 20
"""A record that takes more is not captured: a message holds twice as much at most."""
_RECORD_BYTES = 400
"""What a record takes beside its tensors' elements: the tuple, the arrays' heads, short texts."""
_RETRY_S = (0.1, 0.5, 2.0)
"""Waits before a message that the stream could not take is sent again; the stream knows it by its number."""
_PAUSE_S = 5.0
"""How long nothing is captured after the disk was full."""
_MARK_S = 0.05
"""How often the mark follows what waits (0.1 ms in the thread): after a kill it is ahead by about so long."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may wait to be published, in each process."""

    records: int = 16_384
    bytes: int = 64 << 20


class Place:
    """Room that a strict request holds until its record is on the stream, or is known not to be."""

    __slots__ = ("_outcome", "filled", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = False
        self._outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def settle(self, reason: str) -> None:
        """Say what became of the record: empty, it is on the stream."""
        if not self._outcome.done():
            self._outcome.set_result(reason)

    async def kept(self, timeout_s: float) -> None:
        """Wait until the record is on the stream.

        Raises:
            CaptureFailed: it is not, or not in time.
        """
        done, _ = await asyncio.wait((self._outcome,), timeout=timeout_s)
        if not done:
            raise CaptureFailed("the record of this request was not stored in time")
        reason = self._outcome.result()
        if reason:
            raise CaptureFailed(f"the record of this request could not be stored ({reason})")


class Lane:
    """The captures of one served variant. Used on the event loop only."""

    __slots__ = ("_capture", "_rigid", "_sampler", "_sizes", "_usual", "counters", "records", "source", "strict")

    def __init__(self, capture: Capture, source: Source) -> None:
        self._capture = capture
        self._sampler = source.sampler
        self.source = source
        self.strict = source.sampler.strict
        self.records: list[Record] = []
        self._usual: Head | None = None
        """Of the last successful request with one tensor in and one out, both small and not cut."""
        self._sizes = (0, 0)
        self._rigid = source.sampler.inputs.rigid and source.sampler.outputs.rigid
        self.counters: dict[tuple[str, str], Counter] = {}

    def drain(self) -> list[Record]:
        """Take what waits."""
        records, self.records = self.records, []
        return records

    def reserve(self, request: InferRequest) -> Place | None:
        """Room for a strict request before it runs; None when it is not in the sample.

        Raises:
            Unavailable: there is no room now.
            TooLarge: there never is for so large a request.
        """
        if not self._sampler.wants(request.inference_id):
            return None
        size = _RECORD_BYTES + sum(byte_size(tensor) for tensor in request.inputs)
        reason = "too_large" if size > _LARGEST else self._capture.admit(size)
        if not reason:
            return Place(size)
        self._capture.drop(self, reason)
        if reason == "too_large":
            raise TooLarge("the request is larger than what strict capture keeps")
        raise Unavailable(f"strict capture has no room for this request ({reason})")

    def offer(
        self,
        request: InferRequest,
        response: InferResponse | None,
        place: Place | None,
        *,
        code: str,
        rows: int,
        at: float,
        latency_s: float,
    ) -> None:
        """Keep the record of one request for the writer, or count what became of it. Never raises.

        `rows` 0: the inputs do not fit the signature, so nobody knows which columns of them are excluded: they are
        not kept. `place` is what `reserve` gave; in strict mode None means that the request is not in the sample.
        """
        sampler, given = self._sampler, request.inference_id
        if place is None and (self.strict or not (sampler.everything or sampler.wants(given))):
            return
        try:
            if place is None and response is not None and self._is_usual(request, response, rows):
                head: Head = self._usual  # type: ignore[assignment]
                record: Record = (
                    head, given, at, latency_s, request.inputs[0].array.tobytes(), response.outputs[0].array.tobytes()
                )  # fmt: skip
                if self.records and not self._capture.admit(head.size + len(given)):  # 1 us: this is the hot path
                    self.records.append(record)
                    return
            else:
                head, kept_in, kept_out = self._unusual(request, response, place, code, rows)
                record = (head, given, at, latency_s, kept_in, kept_out)
        except Exception:  # noqa: BLE001 - a defect in capturing must not become the caller's
            self._capture.fail(self, place, given)
            return
        self._capture.add(self, record)

    def _is_usual(self, request: InferRequest, response: InferResponse, rows: int) -> bool:
        """Whether the request is like the last successful one in everything but its values."""
        usual = self._usual
        if (
            usual is None
            or rows != usual.rows
            or request.outputs
            or request.content_type != usual.asked
            or response.content_type != usual.answered
            or request.custom_attributes != usual.attributes
        ):
            return False
        given, answer = request.inputs[0].array, response.outputs[0].array
        if self._rigid:  # asking for a shape makes a tuple: 0.1 us each
            return given.size == self._sizes[0] and answer.size == self._sizes[1]
        return given.shape == usual.shapes_in and answer.shape == usual.shapes_out

    def _unusual(
        self, request: InferRequest, response: InferResponse | None, place: Place | None, code: str, rows: int
    ) -> tuple[Head, Kept, Kept]:
        sampler = self._sampler
        kept_in, shapes_in, size = sampler.inputs.take(request.inputs if rows else ())
        kept_out, shapes_out, more = sampler.outputs.take(() if response is None else response.outputs)
        head = Head(
            code=code,
            rows=rows,
            asked=request.content_type,
            answered="" if response is None else response.content_type,
            attributes=request.custom_attributes,
            shapes_in=shapes_in,
            shapes_out=shapes_out,
            size=_RECORD_BYTES + size + more + len(request.content_type) + len(request.custom_attributes),
            classified=sampler.outputs.retyped(response.outputs) if request.outputs and response else frozenset(),
            place=place,
        )
        alone = response is not None and len(request.inputs) == len(response.outputs) == 1
        if alone and not place and not request.outputs and type(kept_in) is type(kept_out) is bytes:
            self._usual = head
            self._sizes = request.inputs[0].array.size, response.outputs[0].array.size  # type: ignore[union-attr]
        return head, kept_in, kept_out


class Capture:
    """What waits to be published by this process, and its writer."""

    def __init__(
        self,
        stream: EventStream,
        metrics: Metrics,
        *,
        producer: Producer | None = None,
        bounds: Bounds | None = None,
        age_s: float = AGE_S,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._stream = stream
        self._metrics = metrics
        self._bounds = bounds or Bounds()
        self._age_s = age_s
        self._pause_s = pause_s
        self._producer = producer or Producer(None)
        self._life = new_life()
        self._records = 0
        self._eager_records = self._bounds.records // 2
        self._bytes = 0
        self._lost = 0
        """Sampled requests that ended without a number: the next message's numbers begin so many later."""
        self._numbered = 0
        """Of `_records`, those that have numbers: they are being published."""
        self._cut_off: list[_Group] = []
        """Groups whose writing was cancelled; whether they have numbers the thread knows."""
        self._dirty: list[Lane] = []
        self._closed = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._due = asyncio.Event()
        self._stopping = False
        self._told_of_defect = False

    def admit(self, size: int) -> str:
        """Take room for one record; else the reason why there is none."""
        if self._closed:
            return self._closed
        if self._records >= self._bounds.records:
            return "buffer_full"
        if self._bytes + size > self._bounds.bytes:
            return "bytes_full"
        self._records += 1
        self._bytes += size
        if self._bytes > _EAGER_BYTES or self._records > self._eager_records:
            self._due.set()
        return ""

    def add(self, lane: Lane, record: Record) -> None:
        """Put a record into its lane, or count why not."""
        place, size = record[0].place, size_of(record)
        if place is not None and size <= _LARGEST:
            self._move_in(place, size)
        elif reason := "too_large" if size > _LARGEST else self.admit(size):
            self.drop(lane, reason, place)
            return
        if not lane.records:
            self._dirty.append(lane)
            self._wake.set()
        lane.records.append(record)
        if place is not None:
            self._due.set()

    def drop(self, lane: Lane, reason: str, place: Place | None = None) -> None:
        """Count a sampled request that is not kept; what it had reserved is free again."""
        self._lose(lane, "dropped", reason, place)

    def fail(self, lane: Lane, place: Place | None, inference_id: str) -> None:
        """Count a record that the exception being handled kept from being made; log the first one."""
        if not self._told_of_defect:
            self._told_of_defect = True
            ids = {"endpoint": lane.source.endpoint, "inference_id": inference_id}
            log.exception("a capture failed unexpectedly; further ones are only counted", extra=ids)
        self._lose(lane, "failed", "defect", place)

    async def run(self) -> None:
        """Publish what is offered until `stop`; then what is left, once."""
        follower = asyncio.create_task(self._follow())
        try:
            while not self._stopping:
                await self._wake.wait()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._age_s):
                        await self._due.wait()
                self._wake.clear()
                self._due.clear()
                await self.flush()
            await self.flush()
        finally:
            follower.cancel()

    async def _follow(self) -> None:
        """Have the producer's mark stand where the numbers of what waits now would end, and a moment beyond."""
        loop = asyncio.get_running_loop()
        while True:
            waits = await loop.run_in_executor(self._thread, self._expect)
            await (asyncio.sleep(min(_MARK_S, self._age_s)) if waits else self._wake.wait())

    def _expect(self) -> bool:
        """In the thread: tell the producer how many wait for numbers; returns whether any do."""
        waiting = max(self._records - self._numbered + self._lost, 0)
        try:
            self._producer.expect(waiting)
        except OSError as error:  # `take` says so too, and has captures wait
            log.debug("the mark of captures was not moved", extra={"reason": error.strerror})
        return waiting > 0

    async def flush(self) -> None:
        """Publish everything that waits now."""
        async with self._turn:
            lanes, self._dirty = self._dirty, []
            try:
                for group in _groups(lanes):
                    await self._write(group)
            finally:  # cancelled: what was not taken yet stays
                self._dirty += [lane for lane in lanes if lane.records and lane not in self._dirty]

    def stop(self) -> None:
        """Let `run` finish."""
        self._stopping = True
        self._wake.set()
        self._due.set()

    async def close(self) -> None:
        """After the writer's end: count what is left, write the producer's exact numbers, end the thread."""
        self._closed = "stopping"
        lanes, self._dirty = self._dirty, []
        for lane in lanes:
            for record in lane.drain():
                self._free(1, size_of(record))
                self._lose(lane, "dropped", "stopping", record[0].place, held=False)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._finish)
        self._thread.shutdown(wait=False)

    async def _write(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        group.lost, self._lost = self._lost, 0
        reason, messages = "stopping", list[Message | None]()
        try:
            messages = await loop.run_in_executor(self._thread, self._prepare, group)
            reason = await self._publish([message for message in messages if message is not None])
        except OSError as error:
            log.warning("captures cannot be numbered", extra={"reason": error.strerror})
            reason = self._pause("disk")
            self._lost += group.lost + group.records
        except asyncio.CancelledError:
            self._cut_off.append(group)
            raise
        finally:
            self._numbered = 0
            for index, (lane, part) in enumerate(group.parts):
                defect = bool(messages) and messages[index] is None
                self._settle(lane, part, "defect" if defect else reason)

    def _prepare(self, group: _Group) -> list[Message | None]:
        """In the thread: a message for each part; None where it could not be made. Raises OSError."""
        group.lost += self._lost_in_cuts()
        first, number = self._producer.take(group.lost + group.records, len(group.parts))
        group.numbered = True
        self._numbered = group.records
        first += group.lost
        messages: list[Message | None] = []
        for lane, part in group.parts:
            try:
                message = message_of(part, producer=self._producer.id, life=self._life, first=first, number=number)
            except Exception:
                log.exception("captures could not be written", extra={"endpoint": lane.source.endpoint})
                messages.append(None)
            else:
                messages.append(message)
            first, number = first + len(part.records), number + 1
        return messages

    async def _publish(self, messages: Sequence[Message]) -> str:
        """Empty when the messages are on the stream, else why they are not."""
        for wait_s in (*_RETRY_S, None):
            try:
                await self._stream.publish("captures", messages)
            except VedetteError as error:
                log.warning("captures were not stored", extra={"messages": len(messages), "reason": error.message})
                if _out_of_disk(error):
                    return self._pause("disk")
                if not isinstance(error, Unavailable | Overloaded):
                    return "refused"
                if wait_s is None or self._stopping:
                    return "stream_down"
                await asyncio.sleep(wait_s)
            except Exception:
                log.exception("captures were not stored")
                return "defect"
            else:
                return ""
        return "stream_down"

    def _settle(self, lane: Lane, part: Part, reason: str) -> None:
        """The part is on the stream, or not for this reason: count it, tell who waits, free its room."""
        self._free(len(part.records), part.size)
        self._count(lane, "failed" if reason else "captured", reason, len(part.records))
        if lane.strict:
            for record in part.records:
                place = record[0].place
                if place is not None:
                    place.settle(reason)

    def _lose(self, lane: Lane, outcome: str, reason: str, place: Place | None, *, held: bool = True) -> None:
        self._lost += 1
        self._count(lane, outcome, reason, 1)
        if place is None:
            return
        if held:
            self._free(1, place.size)
        place.filled = True
        place.settle(reason)

    def _move_in(self, place: Place, size: int) -> None:
        """Turn reserved room into what the record takes: its tensors are alive until the answer is sent anyway."""
        self._bytes += size - place.size
        place.filled, place.size = True, size

    def _free(self, records: int, size: int) -> None:
        self._records -= records
        self._bytes -= size

    def _count(self, lane: Lane, outcome: str, reason: str, amount: int) -> None:
        if (outcome, reason) not in lane.counters:
            labels = {"endpoint": lane.source.endpoint, "outcome": outcome, "reason": reason}
            lane.counters[outcome, reason] = self._metrics.counter("vedette_captures_total", **labels)
        lane.counters[outcome, reason].inc(amount)

    def _pause(self, reason: str) -> str:
        """Capture nothing for a while: what is dropped now costs no work and, in strict mode, runs no model."""
        if not self._closed:
            self._closed = reason
            asyncio.get_running_loop().call_later(self._pause_s, self._resume, reason)
        return reason

    def _resume(self, reason: str) -> None:
        if self._closed == reason:
            self._closed = ""

    def _lost_in_cuts(self) -> int:
        """In the thread, which is done with them: records of cancelled groups that were given no numbers."""
        groups, self._cut_off = self._cut_off, []
        return sum(group.lost + group.records for group in groups if not group.numbered)

    def _finish(self) -> None:
        try:
            self._producer.take(self._lost + self._lost_in_cuts(), 0)
        except OSError as error:
            log.warning("the numbers of captures were not written", extra={"reason": error.strerror})
        self._producer.close()


@dataclass(slots=True)
class _Group:
    """What one publish takes."""

    parts: list[tuple[Lane, Part]]
    lost: int = 0
    """Numbers that are left out before the first record's."""
    numbered: bool = False

    @property
    def records(self) -> int:
        """Records in all parts."""
        return sum(len(part.records) for _, part in self.parts)


def _groups(lanes: Sequence[Lane]) -> Iterator[_Group]:
    """Take what the lanes hold, in groups of bounded size."""
    parts: list[tuple[Lane, Part]] = []
    size = 0
    for lane in lanes:
        for part in parts_of(lane.source, lane.drain()):
            parts.append((lane, part))
            size += part.size
            if size > _GROUP_BYTES:
                yield _Group(parts)
                parts, size = [], 0
    if parts:
        yield _Group(parts)


def _out_of_disk(error: VedetteError) -> bool:
    """Whether the stream says that its disk is full: by its text, or by the system's error under it."""
    number = getattr(error.__cause__, "errno", None)
    return "disk space" in error.message or number in (errno.ENOSPC, errno.EDQUOT)
