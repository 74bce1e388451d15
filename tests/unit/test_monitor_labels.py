"""Ground truth that nobody can use is refused, with a reason and its line, and costs the other lines nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests.monitor_rig import START, Rig, watching

from vedette.core.errors import NotFound
from vedette.core.events import Message
from vedette.core.models import EndpointConfig, Variant
from vedette.core.ports import Change, Deployment, Synced
from vedette.entities.monitors import CheckSettings
from vedette.monitor.traffic.labels import Labels
from vedette.monitor.traffic.lots import Kept
from vedette.ports.monitors import PredictionBlock, WindowKey

QUALITY = CheckSettings("model_quality")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """The endpoint `e` serves a model of the classes no and yes; requests of 3, 1 and 2 rows wait for labels."""
    rig = await Rig(tmp_path).know()
    await rig.begin(watching(checks=(QUALITY,)))
    version = rig.registry.versions["m", 1]
    config = EndpointConfig("m", (Variant("A", 1),))
    await rig.references._heard(Change(2, "e", Deployment("e", 1, config, (version,))))
    await rig.references._heard(Synced(2, whole=True))
    kept = Kept(["three"] * 3 + ["one"] + ["two"] * 2, [0, 1, 2, 0, 0, 1], {"age": np.zeros(6)})
    with rig.store.transaction() as tx:
        window = WindowKey("m", "A", "1", "", START)
        tx.put_blocks([PredictionBlock("e", window, 0, 6, kept.encode())], keep_rows=99)
    rig.labels = Labels(rig.store, rig.index, clock=rig.clock, metrics=rig.metrics, served=rig.references)
    yield rig
    rig.close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id": "one", "label": "nosuchclass"}', "line 2: 'nosuchclass' is no class of the model, which has no, yes"),
        (b'{"id": "one", "label": 7}', "line 2: 7 is no class of the model, which has no, yes"),
        (b'{"id": "one", "label": 1.5}', "line 2: 1.5 is no class of the model, which has no, yes"),
        (b'{"id": "nobody", "label": -1}', "line 2: -1 is no class of the model, which has no, yes"),
        (b'{"id": "three", "label": ["no", 2, 1]}', "line 2: 2 is no class of the model, which has no, yes"),
        (b'{"id": "three", "label": [0, 1]}', "line 2: a list of 2 labels for a request of 3 rows"),
        (b'{"id": "three", "label": [0, 1, 1, 0]}', "line 2: a list of 4 labels for a request of 3 rows"),
        (b'{"id": "three", "label": 1}', "line 2: one label for a request of 3 rows"),
        (b'{"id": "one", "label": [0, 1]}', "line 2: a list of 2 labels for a request of one row"),
    ],
)
async def test_labels_that_fit_nothing_are_refused(rig: Rig, line: bytes, why: str) -> None:
    """Of no class of the model, or not one for each row; the line before is taken."""
    counts, reasons = await rig.labels.take("e", b'{"id": "waits", "label": "yes"}\n' + line)
    assert counts == {"joined": 0, "waiting": 1, "unknown": 0, "refused": 1}
    assert reasons == [why]


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "three", "label": ["no", 1, null]}',
        b'{"id": "one", "label": "yes"}',
        b'{"id": "one", "label": [0.0]}',
        b'{"id": "one", "label": true}',
        b'{"id": "two", "label": [1, 0]}',
    ],
)
async def test_labels_that_fit_are_taken(rig: Rig, line: bytes) -> None:
    """By name, index or truth value; a row that is not known yet is null."""
    assert await rig.labels.accept("e", line) == {"joined": 1, "waiting": 0, "unknown": 0, "refused": 0}


async def test_values_are_no_classes(rig: Rig) -> None:
    """Where a check says that the labels are values, every number is one."""
    with rig.store.transaction() as tx:
        tx.update_monitor(watching(checks=(CheckSettings("model_quality", {"problem_type": "Regression"}),)))
    assert (await rig.labels.accept("e", b'{"id": "one", "label": 17.5}'))["joined"] == 1


async def test_labels_of_an_endpoint_that_is_not_there_are_refused(rig: Rig) -> None:
    """A typing error throws nothing away; by the stream the message is set aside."""
    with pytest.raises(NotFound, match="no endpoint 'nosuch'"):
        await rig.labels.take("nosuch", b'{"id": "one", "label": 1}')
    await rig.stream.publish("ground-truth", [Message("nosuch", b'{"id": "x", "label": 1}', "application/jsonlines")])
    assert await rig.labels.step(rig.stream, 0, wait_s=0.0) == 1
    assert len(await rig.stream.dead_letters("ground-truth", "monitor", 9)) == 1


async def test_labels_of_an_endpoint_that_a_monitor_waits_for_are_kept(rig: Rig) -> None:
    """It may come; so may the registry that has not said yet which there are."""
    with rig.store.transaction() as tx:
        tx.insert_monitor(watching(name="later", endpoint="later"))
    assert (await rig.labels.accept("later", b'{"id": "x", "label": 9}'))["waiting"] == 1
    rig.references.synced = False
    assert (await rig.labels.accept("nosuch", b'{"id": "x", "label": 9}'))["unknown"] == 1
