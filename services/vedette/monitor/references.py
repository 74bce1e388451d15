"""What windows are judged by: signatures of model versions and their baselines, asked of the registry and remembered.

Rule: what was known once is kept in the monitor's store, so that folding and evaluating go on while the registry is
down. A baseline is asked for again after a while, because people replace it; a version never changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import shutil
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from vedette.codec.captures import CaptureBatch
from vedette.core.clock import Clock
from vedette.core.errors import DeadlineExceeded, NotFound, Unavailable, VedetteError
from vedette.core.models import CaptureSettings, ModelVersion, Signature
from vedette.core.ports import Change, Registry, Synced
from vedette.entities.monitors import CONSTRAINTS_FILE, PROFILE_FILE, Baseline
from vedette.monitor.quality.outcomes import PROBABILITY
from vedette.monitor.reference_data.constraints import Constraints, read_constraints
from vedette.monitor.reference_data.segment_baselines import SegmentBaseline, segment_baseline
from vedette.monitor.traffic.folding import Facts
from vedette.monitor.traffic.segments import OTHER
from vedette.monitor.traffic.tabulation import column_names, cut_columns
from vedette.ports.baselines import Baselines
from vedette.ports.monitors import MonitorStore
from vedette.profiles import Layout, Profile

log = logging.getLogger(__name__)

T = TypeVar("T")

RECHECK_S = 15.0
"""How long a baseline, or that there is none, is believed."""
PATIENCE_S = 5.0
"""How long one question may take."""
SILENCE_S = 300.0
"""How long windows wait for a registry that answers nothing before they are judged without."""
MODELS_KEPT_S = 86_400.0
"""How long the files of a model that is not deployed are kept after their last use."""
_MAX_SEGMENTS = 200
_WATCH_AGAIN_S = 2.0
_ASK_AGAIN_S = 1.0
_SILENT = "the registry does not answer"
_UNNAMED = Signature(inputs=(), outputs=())
_ENDPOINT = "@"
"""What the key of a note on an endpoint begins with."""
BaselineKey = tuple[str, int, str]
"""Model, version, name."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One baseline, read."""

    baseline: Baseline
    profile: Profile | None = None
    layout: Layout | None = None
    constraints: Constraints | None = None
    documents: dict[str, bytes] = field(default_factory=dict)
    """Its files, but the profile."""
    trouble: str = ""
    """Why it cannot be used; empty: it can."""
    _segments: dict[tuple[str, ...], SegmentBaseline] = field(default_factory=dict, repr=False, compare=False)

    def segment(self, name: str, named: tuple[str, ...]) -> SegmentBaseline:
        """The baseline of one segment, folded once; see `segment_baseline`."""
        if self.profile is None:
            return SegmentBaseline(None, self.trouble)
        key = (name, *(named if name.endswith(f"={OTHER}") else ()))
        if key not in self._segments:
            if len(self._segments) >= _MAX_SEGMENTS:
                self._segments.clear()
            self._segments[key] = segment_baseline(self.profile, self.layout, name, named)
        return self._segments[key]


@dataclass(frozen=True, slots=True)
class _Serving:
    """What an endpoint serves."""

    model: str
    variants: tuple[tuple[str, int], ...]
    """Those that take traffic, with their versions."""
    shadows: tuple[tuple[str, int], ...]
    digests: frozenset[str]
    capture: CaptureSettings

    @property
    def versions(self) -> list[int]:
        """Every version that is loaded, once."""
        return sorted({version for _, version in (*self.variants, *self.shadows)})


@dataclass(frozen=True, slots=True)
class Captured:
    """The columns of an endpoint's traffic."""

    names: frozenset[str]
    excluded: frozenset[str]
    """Those that captures lack."""


@dataclass(slots=True)
class _Belief:
    """What is known of one baseline; `reference` None: there is none."""

    reference: Reference | None
    checked_at: float


class References:
    """Signatures and baselines by model version, and which endpoints there are."""

    def __init__(
        self, registry: Registry, baselines: Baselines, store: MonitorStore, *, clock: Clock, folder: Path
    ) -> None:
        self._registry = registry
        self._baselines = baselines
        self._store = store
        self._clock = clock
        self._folder = folder
        self._versions: dict[tuple[str, int], ModelVersion] = {}
        self._unknown: dict[tuple[str, int], float] = {}
        self._silent_since = math.inf
        self._ask_again_at = -math.inf
        self._beliefs: dict[BaselineKey, _Belief] = {}
        self._endpoints: dict[str, _Serving] = {}
        self._models: dict[str, str] = {}
        self._fetching = asyncio.Lock()
        self.synced = False
        """Whether the registry has said which endpoints there are."""

    def restore(self) -> None:
        """Remember what was known; damaged notes are asked for again. Blocks."""
        with self._store.read() as snapshot:
            versions, baselines = snapshot.notes("deployment"), snapshot.notes("baseline")
        for name, text in versions.items():
            with contextlib.suppress(msgspec.MsgspecError):
                if name.startswith(_ENDPOINT):
                    self._models[name.removeprefix(_ENDPOINT)] = msgspec.json.decode(text, type=str)
                    continue
                version = msgspec.json.decode(text, type=ModelVersion)
                self._versions[version.model, version.version] = version
        for text in baselines.values():
            with contextlib.suppress(msgspec.MsgspecError):
                baseline, files = msgspec.msgpack.decode(text, type=tuple[Baseline, dict[str, bytes]])
                key = (baseline.model, baseline.version, baseline.name)
                self._beliefs[key] = _Belief(read_reference(baseline, files), 0.0)

    async def run(self) -> None:
        """Follow which endpoints there are, until cancelled."""
        revision = 0
        while True:
            try:
                async for event in self._registry.watch(revision):
                    revision = max(revision, event.revision)
                    await self._heard(event)
            except VedetteError as error:
                log.debug("the registry is out of reach", extra={"reason": error.message})
            await asyncio.sleep(_WATCH_AGAIN_S)

    async def _heard(self, event: Change | Synced) -> None:
        if isinstance(event, Synced):
            self.synced = True
            return
        if event.deployment is None:
            self._endpoints.pop(event.endpoint, None)
            return
        config = event.deployment.config
        self._endpoints[event.endpoint] = _Serving(
            config.model,
            tuple((each.name, each.version) for each in config.variants),
            tuple((each.name, each.version) for each in config.shadow_variants),
            frozenset(version.digest for version in event.deployment.versions),
            config.capture,
        )
        await self._serves(event.endpoint, config.model)
        for version in event.deployment.versions:
            await self._know(version)

    def model_of(self, endpoint: str) -> str:
        """The model whose versions the endpoint serves, or last did; empty: nobody knows."""
        return self._models.get(endpoint, "")

    async def _serves(self, endpoint: str, model: str) -> None:
        if self._models.get(endpoint) != model:
            self._models[endpoint] = model
            await asyncio.to_thread(self._note, "deployment", f"{_ENDPOINT}{endpoint}", msgspec.json.encode(model))

    def missing(self, endpoint: str, baseline: str) -> str:
        """What a monitor of this endpoint with this baseline waits for, as far as is known; empty: nothing."""
        serving = self._endpoints.get(endpoint)
        if serving is None:
            return f"endpoint {endpoint!r} does not exist yet" if self.synced else ""
        model, versions = serving.model, serving.versions
        beliefs = [self._beliefs.get((model, version, baseline)) for version in versions]
        if beliefs and all(belief is not None and belief.reference is None for belief in beliefs):
            numbers = ", ".join(f"{model}:{version}" for version in versions)
            return f"there is no baseline {baseline!r} of {numbers} yet"
        return ""

    async def look_for(self, endpoint: str, baseline: str) -> None:
        """Find out whether the versions behind the endpoint have this baseline, if the registry answers."""
        serving = self._endpoints.get(endpoint)
        with contextlib.suppress(Unavailable):
            for version in serving.versions if serving else ():
                await self.reference(serving.model if serving else "", version, baseline)

    def knows(self, endpoint: str) -> bool:
        """Whether there is such an endpoint, or was; True as long as the registry has not said which there are."""
        return not self.synced or endpoint in self._endpoints or endpoint in self._models

    def classes(self, endpoint: str, baselines: Iterable[str]) -> tuple[str, ...]:
        """The classes of the versions that the endpoint serves: by their names, else by the baselines' probabilities.

        None where one of the versions names none: then nobody knows which labels are right.
        """
        serving = self._endpoints.get(endpoint)
        found: dict[str, None] = {}
        for number in serving.versions if serving else ():
            version = self._versions.get((serving.model, number)) if serving else None
            names = version.signature.label_names if version else ()
            names = names or self._measured_classes(endpoint, str(number), baselines)
            if not names:
                return ()
            found |= dict.fromkeys(names)
        return tuple(found)

    def _measured_classes(self, endpoint: str, version: str, baselines: Iterable[str]) -> tuple[str, ...]:
        """The classes that columns of probabilities name."""
        for name in baselines:
            profile = self.profile(endpoint, version, name)
            columns = profile.columns if profile else ()
            if found := tuple(each.removeprefix(PROBABILITY) for each in columns if each.startswith(PROBABILITY)):
                return found
        return ()

    def serving(self, endpoint: str) -> list[tuple[str, str]]:
        """The variants of the endpoint that take traffic, with their versions, as far as is known."""
        serving = self._endpoints.get(endpoint)
        return [(name, str(version)) for name, version in serving.variants] if serving else []

    def variants(self, endpoint: str) -> frozenset[str] | None:
        """Every variant of the endpoint; None: there is no such endpoint (any more), or nobody knows of it."""
        serving = self._endpoints.get(endpoint)
        if serving is None:
            return None
        return frozenset(name for name, _ in (*serving.variants, *serving.shadows))

    def columns(self, endpoint: str) -> Captured | None:
        """The columns of the versions that the endpoint serves; None: they are not known, or only rows can tell."""
        serving = self._endpoints.get(endpoint)
        versions = [self._versions.get((serving.model, number)) for number in serving.versions] if serving else []
        names, cut = frozenset[str](), frozenset[str]()
        for version in versions:
            own = column_names(version.signature) if version else None
            if serving is None or version is None or own is None:
                return None
            capture = serving.capture
            names |= own
            cut |= cut_columns(version.signature, capture.exclude, inputs=capture.inputs, outputs=capture.outputs)
        return Captured(names, cut) if names else None

    def is_alone(self, endpoint: str, variant: str, version: str) -> bool:
        """Whether the endpoint has this variant and version and no other, as far as is known."""
        serving = self._endpoints.get(endpoint)
        here = [(name, str(number)) for name, number in (*serving.variants, *serving.shadows)] if serving else []
        return here == [(variant, version)]

    def signature(self, endpoint: str, version: str) -> Signature:
        """The signature of a version that the endpoint serves or served, as far as it is known."""
        number = int(version) if version.isdigit() else 0
        found = self._versions.get((self.model_of(endpoint), number))
        return found.signature if found is not None else _UNNAMED

    def document(self, endpoint: str, version: str, baseline: str, name: str) -> bytes | None:
        """A file of the baseline that windows of this version are compared with, as far as it is known."""
        reference = self._known(endpoint, version, baseline)
        return reference.documents.get(name) if reference else None

    def profile(self, endpoint: str, version: str, baseline: str) -> Profile | None:
        """The profile of the baseline that windows of this version are compared with, as far as it is known."""
        reference = self._known(endpoint, version, baseline)
        return reference.profile if reference else None

    def _known(self, endpoint: str, version: str, baseline: str) -> Reference | None:
        model = self.model_of(endpoint)
        number = int(version) if version.isdigit() else 0
        for key, belief in list(self._beliefs.items()):
            if key[0] == (model or key[0]) and key[1:] == (number, baseline) and belief.reference is not None:
                return belief.reference
        return None

    async def facts(self, batch: CaptureBatch, names: Iterable[str]) -> Facts:
        """What folding a batch takes, for monitors with these baselines. `Unavailable`: as `reference`."""
        version = await self.version(batch.model, batch.version)
        if version is None:
            return Facts(_UNNAMED)
        await self._serves(batch.endpoint, batch.model)
        found = {}
        for name in set(names):
            reference = await self.reference(version.model, version.version, name)
            if reference is not None and reference.layout is not None:
                found[name] = (reference.baseline.digest, reference.layout)
        return Facts(version.signature, version.model, found)

    async def version(self, model: str, version: str) -> ModelVersion | None:
        """The model version that a capture names; None when nobody knows it now. `Unavailable`: as `reference`."""
        if not (version.isascii() and version.isdigit() and len(version) < 10):
            return None
        key = (model, int(version))
        if key in self._versions:
            return self._versions[key]
        now = self._clock.monotonic()
        if now < self._unknown.get(key, -1.0):
            return None
        try:
            found = await self._answer(self._baselines.version(*key))
        except Unavailable:
            if not self.gave_up:
                raise
            return None
        except VedetteError:
            if len(self._unknown) > 1_000:
                self._unknown.clear()
            self._unknown[key] = now + RECHECK_S
            return None
        await self._know(found)
        return found

    @property
    def gave_up(self) -> bool:
        """Whether the registry has not answered for so long that nothing waits for it any more."""
        return self._clock.monotonic() - self._silent_since >= SILENCE_S

    async def _answer(self, question: Coroutine[Any, Any, T]) -> T:
        """The registry's answer. `Unavailable` when there is none, and for a while after that without asking."""
        if self._clock.monotonic() < self._ask_again_at:
            question.close()
            raise Unavailable(_SILENT)
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await question
        except (Unavailable, DeadlineExceeded, TimeoutError) as error:
            now = self._clock.monotonic()
            self._silent_since = min(self._silent_since, now)
            self._ask_again_at = now + (RECHECK_S if self.gave_up else _ASK_AGAIN_S)
            raise Unavailable(_SILENT) from error
        except VedetteError:
            self._silent_since, self._ask_again_at = math.inf, -math.inf
            raise
        self._silent_since, self._ask_again_at = math.inf, -math.inf
        return found

    async def _know(self, version: ModelVersion) -> None:
        key = (version.model, version.version)
        if key not in self._versions:
            self._versions[key] = version
            await asyncio.to_thread(self._note, "deployment", f"{key[0]}:{key[1]}", msgspec.json.encode(version))

    async def reference(self, model: str, version: int, name: str) -> Reference | None:
        """The version's baseline of this name as far as it is known; None when there is none.

        Raises:
            Unavailable: whether there is one was never known and the registry does not answer now. Ask again; once it
                has been silent for `SILENCE_S` the answer is None (`gave_up`).
        """
        key = (model, version, name)
        belief = self._beliefs.get(key)
        now = self._clock.monotonic()
        if belief is not None and belief.checked_at and now - belief.checked_at < RECHECK_S:
            return belief.reference
        try:
            reference = await self._answer(self._ask(key, belief))
        except NotFound:
            reference = None
        except Unavailable:
            if belief is None and not self.gave_up:
                raise
            if belief is None:
                return None
            reference = belief.reference  # believed a while longer
        except VedetteError:
            reference = belief.reference if belief else None
        self._beliefs[key] = _Belief(reference, now or 1e-9)
        return reference

    async def _ask(self, key: BaselineKey, belief: _Belief | None) -> Reference:
        baseline = await self._baselines.baseline(*key)
        if belief is not None and belief.reference is not None and belief.reference.baseline == baseline:
            return belief.reference
        files = {file.path: await self._baselines.baseline_file(baseline, file.path) for file in baseline.files}
        note = msgspec.msgpack.encode((baseline, files))
        await asyncio.to_thread(self._note, "baseline", f"{key[0]}:{key[1]}/{key[2]}", note)
        return await asyncio.to_thread(read_reference, baseline, files)

    def _note(self, kind: str, key: str, value: bytes) -> None:
        try:
            with self._store.transaction() as tx:
                tx.put_note("deployment" if kind == "deployment" else "baseline", key, value)
        except Unavailable as error:  # it is asked for again after the next start
            log.warning("what the registry said was not remembered", extra={"reason": error.message})

    async def graph(self, version: ModelVersion) -> Path | None:
        """The folder with the version's verified files; None when they are not here and cannot be had."""
        async with self._fetching:
            return await self._fetched(version)

    async def _fetched(self, version: ModelVersion) -> Path | None:
        folder = self._folder / version.digest
        with contextlib.suppress(OSError):
            self._touch(folder)
            return folder
        draft = self._folder / f".{version.digest}"
        try:
            await asyncio.to_thread(_empty, draft)
            async with asyncio.timeout(60.0):
                await self._registry.fetch(version, draft)
            await asyncio.to_thread(draft.rename, folder)
            self._touch(folder)
        except (VedetteError, TimeoutError, OSError) as error:
            log.warning("the model could not be fetched", extra={"reason": str(error)})
            return None
        return folder

    def _touch(self, folder: Path) -> None:
        """Its age is the time since its last use."""
        now = self._clock.time()
        os.utime(folder, (now, now))

    def sweep(self, now: float) -> int:
        """Remove files of models that are not deployed and were not used for a day; returns how many models. Blocks."""
        deployed = {digest for serving in list(self._endpoints.values()) for digest in serving.digests}
        gone = 0
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            if folder.name not in deployed and now - folder.stat().st_mtime > MODELS_KEPT_S:
                shutil.rmtree(folder, ignore_errors=True)
                gone += 1
        return gone


def read_reference(baseline: Baseline, files: dict[str, bytes]) -> Reference:
    """The baseline's files as checks take them; what cannot be read is told in `trouble`."""
    documents = {name: data for name, data in files.items() if name != PROFILE_FILE}
    try:
        profile = Profile.from_bytes(files[PROFILE_FILE])
        constraints = read_constraints(files[CONSTRAINTS_FILE])
    except KeyError as error:
        return Reference(baseline, documents=documents, trouble=f"the baseline has no file {error.args[0]}")
    except VedetteError as error:
        return Reference(baseline, documents=documents, trouble=f"the baseline cannot be read: {error.message}")
    return Reference(baseline, profile, Layout.of(profile), constraints, documents)


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
