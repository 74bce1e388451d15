"""The consumer of captures: reads the stream, folds, and stores windows and offset in one transaction.

Rule: the offset in the monitor's own store is the truth. After any end, folding goes on from it, so every message
counts exactly once whatever is killed when. A message that cannot be handled is tried three times and then buried;
also one that kills the process, which is found by handling messages one by one after deaths without progress.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from vedette.codec.captures import CaptureBatch, decode_captures
from vedette.core.clock import Clock
from vedette.core.errors import InvalidArgument, Unavailable, VedetteError
from vedette.core.events import Delivery, Topic
from vedette.core.metrics import Metrics
from vedette.core.models import Signature
from vedette.core.ports import EventStream
from vedette.entities.monitors import Monitor, MonitorStatus
from vedette.monitor.evaluation import QUALITY
from vedette.monitor.references import References
from vedette.monitor.traffic.bookmarks import Last, Life, fingerprint, read_last, read_life
from vedette.monitor.traffic.folding import Changes, Facts, Fold, FoldLimits, Tally, Watch, check_batch
from vedette.monitor.traffic.labels import PredictionIndex
from vedette.ports.monitors import MonitorSnapshot, MonitorStore, MonitorTransaction

log = logging.getLogger(__name__)

TOPIC: Topic = "captures"
GROUP = "monitor"
ATTEMPTS = 3
_LAST = f"{TOPIC}/last"
_READ = 64
_CAREFUL_AFTER = 4
"""Starts without progress after which messages are handled one by one; fewer could be somebody's kill -9."""
_CAREFUL_FOR = 512
"""Messages after which that ends."""


@dataclass(frozen=True, slots=True)
class IntakeLimits:
    """When what was folded is stored."""

    commit_s: float = 1.0
    """Seconds between two commits; longer when a commit takes more than a twentieth of that."""
    messages: int = 256
    """Messages folded between two commits."""
    settle_s: float = 10.0
    """Seconds between two looks for captures that are lost."""
    kept_predictions: int = 1_000_000
    """Predictions of one endpoint that are kept for their ground truth."""


_FOLD, _LIMITS = FoldLimits(), IntakeLimits()


class _Broken(Exception):
    """Folding this message failed unexpectedly: what is in memory is not to be trusted."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


class Intake:
    """Folds the stream's captures into windows."""

    def __init__(
        self,
        stream: EventStream,
        store: MonitorStore,
        references: References,
        index: PredictionIndex,
        *,
        clock: Clock,
        metrics: Metrics,
        fold_limits: FoldLimits = _FOLD,
        limits: IntakeLimits = _LIMITS,
        sealed: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._store = store
        self._references = references
        self._index = index
        self._clock = clock
        self._metrics = metrics
        self._fold_limits = fold_limits
        self._limits = limits
        self._sealed = sealed
        self._fold = Fold(fold_limits)
        self._offset = 0
        self._stored_offset = -1
        self._consumer = Life()
        self._careful_until = 0
        self._tried = -1
        self._last: Last | None = None
        self._passing: Delivery | None = None
        self._fresh = True
        self._sure = False
        self._refused: list[tuple[Delivery, InvalidArgument]] = []
        self._since = 0
        self._commit_at = 0.0
        self._settle_at = 0.0
        self._arrivals: dict[str, float] = {}
        self._watch_again = True
        self._caught_up = False
        self._stopping = asyncio.Event()
        self.trouble = ""
        """Why nothing is being folded just now; empty: all is well."""

    # The loop

    async def run(self) -> None:
        """Consume until `stop`; goes on by itself after whatever can pass."""
        self._fresh, self._sure = True, False
        while not self._stopping.is_set():
            try:
                await self._go_on()
            except VedetteError as error:
                self._sure &= isinstance(error, Unavailable)
                self._say(error.message)
                await self._pause(1.0)
            except Exception:
                self._say("captures cannot be folded, see the log of the monitor service")
                raise
        await self._end()

    async def _go_on(self) -> None:
        try:
            await self.step()
            self.trouble = ""
        except _Broken as broken:
            await self._again(broken)

    def stop(self) -> None:
        """End `run` after the step under way; what was folded is stored."""
        self._stopping.set()

    def refresh(self) -> None:
        """Monitors have changed: look at them before the next message. Thread-safe."""
        self._watch_again = True

    async def start(self) -> None:
        """What `run` begins with, for callers that drive `step` themselves."""
        self._fresh = True
        await self._resume()

    async def _resume(self) -> None:
        """Begin from what is stored: memory is not to be trusted, or there is nothing in it yet."""
        self._sure = False
        await asyncio.to_thread(self._begin)
        if await self._is_another_stream():
            log.error("the stream is another one: it is read from its beginning", extra={"offset": self._offset})
            self._offset = 0
            self._careful_until = _CAREFUL_FOR if self._consumer.careful else 0
        await self._stream.commit(TOPIC, GROUP, self._offset)
        self._sure = True

    async def _is_another_stream(self) -> bool:
        """Whether the stream was replaced: it ends before what was read, or holds another message at that place.

        What is folded a second time then (of a stream that was restored) is known by its producer's numbers.
        """
        if not self._offset:
            return False
        if await self._stream.end(TOPIC) < self._offset:
            return True
        last = self._last
        if last is None or last.offset >= self._offset:
            return False
        found = await self._stream.read(TOPIC, last.offset, 1)
        kept = bool(found) and found[0].offset == last.offset
        return kept and await asyncio.to_thread(fingerprint, found[0].message) != last.fingerprint

    async def step(self, *, wait_s: float = 0.5) -> int:
        """Handle some messages, or wait for them; store what is due. Returns how many messages were handled."""
        if not self._sure:
            await self._resume()
        if self._watch_again:
            await asyncio.to_thread(self._look_at_monitors)
        limit = 1 if self._offset < self._careful_until else _READ
        deliveries = await self._stream.read(TOPIC, self._offset, limit)
        try:
            await (self._handle(deliveries) if deliveries else self._rest())
        except Unavailable:  # these wait for the registry: what was folded before is not held up
            await self._commit_due()
            raise
        await self._commit_due()
        if not deliveries:
            await self._stream.wait(TOPIC, self._offset, wait_s)
        return len(deliveries)

    async def _commit_due(self) -> None:
        if self._is_due():
            await self.commit()

    async def commit(self) -> None:
        """Store what was folded, and tell the stream how far it is.

        When it fails nothing is stored a second time: it may have been kept all the same, and evaluated meanwhile.
        The next step folds again from what the store says.
        """
        began = self._clock.monotonic()
        if not self._sure:
            await self._resume()
        await self._bury_refused()
        self._sure = False
        changes = await asyncio.to_thread(self._fold.changes)
        if changes != Changes() or self._offset != self._stored_offset:
            await asyncio.to_thread(self._put, changes)
            if changes.sealed:
                self._sealed()
            await self._stream.commit(TOPIC, GROUP, self._offset)
        self._sure = True
        self._since = 0
        took = self._clock.monotonic() - began
        self._commit_at = self._clock.monotonic() + max(self._limits.commit_s, 20 * took)

    # Handling messages

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        careful = self._offset < self._careful_until
        if careful and await self._is_deadly(deliveries[0]):
            self._passed(deliveries[0])
            return
        decoded = await asyncio.to_thread(lambda: [_decoded(delivery) for delivery in deliveries])
        good = [(d, batch, await self._facts(batch)) for d, batch in decoded if not isinstance(batch, InvalidArgument)]
        for tally in await asyncio.to_thread(self._fold_all, good):
            self._tell(tally)
        self._refused += [(d, error) for d, error in decoded if isinstance(error, InvalidArgument)]
        self._passed(deliveries[-1])
        self._since += len(deliveries)
        self._caught_up = False
        if careful:
            await self.commit()

    def _passed(self, delivery: Delivery) -> None:
        self._offset = delivery.offset + 1
        self._passing = delivery

    async def _facts(self, batch: CaptureBatch) -> Facts:
        names = {watch.monitor.baseline for watch in self._fold.watched(batch.endpoint)}
        return await self._references.facts(batch, names) if names else _NO_FACTS

    def _fold_all(self, batches: Sequence[tuple[Delivery, CaptureBatch, Facts]]) -> list[Tally]:
        """Fold in order. What producers can get wrong was refused before, so a failure is a defect of ours."""
        now = self._clock.time()
        tallies = []
        for delivery, batch, facts in batches:
            try:
                tallies.append(self._fold.add(batch, facts, now))
            except Exception as error:
                log.exception("folding failed", extra={"offset": delivery.offset})
                raise _Broken(delivery.offset, f"{type(error).__name__} while folding") from error
        return tallies

    async def _is_deadly(self, delivery: Delivery) -> bool:
        """Count this life's attempt at the message before it begins; True: there were enough, and it is buried."""
        if delivery.offset == self._tried:  # only the store, the stream or the registry were away
            return False
        self._tried = delivery.offset
        return await self._has_failed(delivery, "it was being handled when the monitor died")

    async def _bury_refused(self) -> None:
        while self._refused:
            delivery, error = self._refused[0]
            while not await self._has_failed(delivery, error.message):
                pass  # it will be as wrong the next time
            del self._refused[0]

    async def _has_failed(self, delivery: Delivery, reason: str) -> bool:
        """Count a failure; True: it was the last, and the message is buried."""
        failures = await self._stream.fail(TOPIC, GROUP, delivery.offset, reason)
        if failures < ATTEMPTS:
            return False
        await self._stream.bury(delivery, GROUP, reason)
        log.error("a message was set aside", extra={"topic": TOPIC, "offset": delivery.offset, "reason": reason})
        self._metrics.counter("vedette_monitor_rows_total", endpoint=_OF_NOBODY, outcome="unreadable").inc()
        return True

    async def _again(self, broken: _Broken) -> None:
        """Begin from what is stored, one message at a time until the one that failed is past."""
        self._sure, self._tried = False, -1
        self._careful_until = max(self._careful_until, broken.offset + 1)
        await self._stream.fail(TOPIC, GROUP, broken.offset, broken.reason)

    def _tell(self, tally: Tally) -> None:
        self._arrivals[tally.endpoint] = self._clock.monotonic()
        for outcome, count in tally.rows.items():
            if count:
                name = "vedette_monitor_rows_total"
                self._metrics.counter(name, endpoint=tally.endpoint, outcome=outcome).inc(count)
        self._lost(tally.lost)

    def _lost(self, lost: Mapping[str, int]) -> None:
        for endpoint, count in lost.items():
            if count:
                self._metrics.counter("vedette_monitor_lost_captures_total", endpoint=endpoint or _OF_NOBODY).inc(count)

    # Nothing to read

    async def _rest(self) -> None:
        """The stream was read to its end: let event time go on where nothing arrives, look for what is lost."""
        if await self._stream.end(TOPIC) < self._offset:
            self._sure = False
            return
        now = self._clock.monotonic()
        if not self._caught_up:
            self._caught_up = True
            self._metrics.gauge("vedette_stream_lag_messages", topic=TOPIC, group=GROUP).set(0)
        await asyncio.to_thread(self._expect)
        for endpoint in self._fold.endpoints:
            self._arrivals.setdefault(endpoint, now)
        quiet = [each for each, at in self._arrivals.items() if now - at >= self._fold_limits.idle_s]
        await asyncio.to_thread(self._fold.idle, quiet, self._clock.time())
        if now >= self._settle_at:
            self._settle_at = now + self._limits.settle_s
            self._lost(await asyncio.to_thread(self._fold.settle))

    def _expect(self) -> None:
        for endpoint in self._fold.watched_endpoints:
            self._fold.expect(endpoint, self._references.serving(endpoint), self._clock.time())

    def _is_due(self) -> bool:
        late = self._clock.monotonic() >= self._commit_at
        return late or self._since >= self._limits.messages or self._fold.has_sealed or bool(self._refused)

    # The store

    def _begin(self) -> None:
        """Begin from what is stored. Blocks."""
        self._fold = Fold(self._fold_limits)
        self._refused = []
        with self._store.transaction() as tx:
            self._offset = self._stored_offset = tx.offset(TOPIC)
            self._fold.watch(_watches(tx))
            damaged = self._fold.restore(tx.windows(), tx.notes)
            self._last, self._passing = read_last(tx.note("consumer", _LAST)), None
            if self._fresh:
                self._count_life(tx)
        for what in damaged:
            log.error("stored state is damaged", extra={"what": what})
        if self._fresh:
            self._fresh, self._tried = False, -1
            self._careful_until = self._offset + _CAREFUL_FOR if self._consumer.careful else 0
        self._since = 0
        now = self._clock.monotonic()
        self._arrivals = dict.fromkeys(self._fold.endpoints, now)
        self._settle_at = now + self._limits.settle_s

    def _count_life(self, tx: MonitorTransaction) -> None:
        before = read_life(tx.note("consumer", TOPIC))
        same = before.running and before.offset == self._offset
        starts = before.starts + 1 if same else 1
        careful = before.running and (before.careful or starts > _CAREFUL_AFTER)
        self._consumer = Life(self._offset, starts, careful, running=True)
        tx.put_note("consumer", TOPIC, msgspec.json.encode(self._consumer))

    def _put(self, changes: Changes) -> None:
        with self._store.transaction() as tx:
            tx.drop_windows(changes.dropped_windows)
            for kind, name in changes.dropped_notes:
                tx.drop_note(kind, name)
            tx.put_windows(changes.windows)
            tx.put_blocks(changes.blocks, keep_rows=self._limits.kept_predictions)
            for (kind, name), value in changes.notes.items():
                tx.put_note(kind, name, value)
            tx.set_offset(TOPIC, self._offset)
            self._put_last(tx)
            if self._consumer.careful and self._offset >= self._careful_until:
                self._consumer.careful = False
                tx.put_note("consumer", TOPIC, msgspec.json.encode(self._consumer))
            self._index.add(changes.blocks)
        self._stored_offset = self._offset
        for state in changes.windows:
            if state.sealed:
                name = "vedette_monitor_windows_total"
                self._metrics.counter(name, monitor=state.key.monitor, outcome="due").inc()

    def _put_last(self, tx: MonitorTransaction) -> None:
        passed = self._passing
        if passed is not None:
            self._last, self._passing = Last.of(passed), None
            tx.put_note("consumer", _LAST, msgspec.json.encode(self._last))

    def _look_at_monitors(self) -> None:
        self._watch_again = False
        try:
            with self._store.read() as snapshot:
                watches = _watches(snapshot)
        except VedetteError:
            self._watch_again = True
            raise
        self._fold.watch(watches)

    async def _end(self) -> None:
        """Store what was folded and that this life ended cleanly; whoever comes next would otherwise be careful."""
        try:
            await self.commit()
            self._consumer.running = False
            await asyncio.to_thread(self._put_consumer)
        except VedetteError as error:
            log.warning("the last windows were not stored; they are folded again", extra={"reason": error.message})

    def _put_consumer(self) -> None:
        with self._store.transaction() as tx:
            tx.put_note("consumer", TOPIC, msgspec.json.encode(self._consumer))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):  # wait_for may swallow a cancellation
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _say(self, reason: str) -> None:
        if self.trouble != reason:
            log.warning("captures wait", extra={"reason": reason})
        self.trouble = reason


_NO_FACTS = Facts(Signature(inputs=(), outputs=()))
_OF_NOBODY = ""
"""The endpoint of what names none."""


def _decoded(delivery: Delivery) -> tuple[Delivery, CaptureBatch | InvalidArgument]:
    try:
        batch = decode_captures(delivery.message.value)
        check_batch(batch)
    except InvalidArgument as error:
        return delivery, error
    return delivery, batch


def _watches(snapshot: MonitorSnapshot) -> list[Watch]:
    """The monitors that are not paused; one whose settings this version cannot read is left out."""
    found = []
    for monitor in all_monitors(snapshot):
        if monitor.status not in (MonitorStatus.STOPPED, MonitorStatus.FAILED):
            keeps = any(settings.check in QUALITY for settings in monitor.checks)
            try:
                found.append(Watch.of(monitor, keeps=keeps))
            except InvalidArgument as error:
                log.error("a monitor is not watched for", extra={"monitor": monitor.name, "reason": error.message})
    return found


def all_monitors(snapshot: MonitorSnapshot) -> list[Monitor]:
    """Every monitor, by name."""
    found, token = snapshot.monitors(limit=1_000)
    while token:
        more, token = snapshot.monitors(limit=1_000, after=token)
        found += more
    return found
