"""What reading and writing numbers costs, against the ways that were tried before: `python -m loadtests.codec`.

Ratios are taken round by round, so that a busy machine matters less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from loadtests import messages, models
from vedette.codec.jsondata import encodable, flat_array, to_json
from vedette.codec.v2json import decode_request
from vedette.core.tensors import Tensor

ROUNDS = 9
SECONDS = 0.02
Call = Callable[[], object]


def through_numpy(values: list[object]) -> object:
    """How a list of floats became an array before."""
    with np.errstate(over="raise"):
        return np.array(values, np.float32)


def through_floats(array: NDArray[np.float32]) -> object:
    """How handlers usually write an answer: every number a Python object first."""
    return orjson.dumps(array.ravel().tolist())


def to_text(array: NDArray[np.float32]) -> object:
    """How we write it."""
    return to_json(encodable(Tensor("y", "FP32", array)))


def us(call: Call) -> float:
    """Microseconds a call, over about `SECONDS`."""
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        for _ in range(10):
            call()
        calls += 10
    return spent / calls * 1e6


def lines() -> Iterator[tuple[str, Call, Call]]:
    """What is compared: a name, our way and the other."""
    for name in ("reference", "mlp"):
        row = models.row(name)
        values: list[object] = [*row.ravel().tolist()]
        body, binary = messages.json_message(name).body, messages.binary_message(name)
        length = int(binary.headers[messages.HEADER_LENGTH])
        yield (
            f"{row.size} floats to an array / numpy",
            partial(flat_array, "x", "FP32", values),
            partial(through_numpy, values),
        )
        yield f"{row.size} floats to text / lists", partial(to_text, row), partial(through_floats, row)
        yield (
            f"request of {row.size} in binary / JSON",
            partial(decode_request, binary.body, length),
            partial(decode_request, body),
        )


def main() -> None:
    """Measure and print."""
    table = Table("what / other way", "ours us", "other us", "times quicker")
    for what, ours, other in lines():
        pairs = [(us(ours), us(other)) for _ in range(ROUNDS)]
        own, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(there / here for here, there in pairs)
        table.add_row(what, f"{own:.1f}", f"{theirs:.1f}", f"{ratio:.2f}x")
    Console().print(table)


if __name__ == "__main__":
    main()
