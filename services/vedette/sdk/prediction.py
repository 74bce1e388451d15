"""What a prediction is to the one who asked for it.

Rule: outputs are numpy arrays that belong to the caller's answer alone and may be read-only views of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vedette.codec.bfloat16 import widen
from vedette.core.errors import InvalidArgument
from vedette.core.tensors import Array, InferResponse, Parameter, Tensor

_SCORES = ("probabilities", "scores", "logits")


@dataclass(frozen=True, slots=True)
class Prediction(Mapping[str, Array]):
    """The outputs of one inference by name, a mapping of them, and who made them."""

    endpoint: str
    version: str
    """The model version that answered."""
    outputs: dict[str, Array]
    """FP16 and FP64 stay what they are; BF16 becomes float32; BYTES are str where they are UTF-8."""
    label_names: tuple[str, ...] = ()
    id: str = ""
    parameters: dict[str, Parameter] = field(default_factory=dict)

    def __getitem__(self, output: str) -> Array:
        """One output by name.

        Raises:
            InvalidArgument: the model did not return it; the message names those it did.
        """
        if output not in self.outputs:
            raise InvalidArgument(f"no output {output!r}; there are {', '.join(self.outputs)}")
        return self.outputs[output]

    def __contains__(self, output: object) -> bool:
        return output in self.outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def get(self, output: str, default: Any = None, /) -> Any:
        """One output by name, else `default`: what is missing raises no `KeyError` here."""
        return self.outputs.get(output, default)

    @property
    def array(self) -> Array:
        """The output, where there is one; raises `InvalidArgument` where there are several."""
        if len(self.outputs) != 1:
            raise InvalidArgument(f"the model has several outputs: choose one of {', '.join(self.outputs)}")
        return next(iter(self.outputs.values()))

    @property
    def labels(self) -> list[str]:
        """The class of each row: from the output `label`, else the largest score, by name where names are known.

        Raises:
            InvalidArgument: this is not the answer of a classifier.
        """
        if "label" in self.outputs:
            return [self._label_name(value) for value in self.outputs["label"].reshape(-1).tolist()]
        scores = self._scores()
        return [self._label_name(index) for index in np.argmax(scores, axis=-1).reshape(-1).tolist()]

    @property
    def label(self) -> str:
        """The class of the only row; raises `InvalidArgument` for several rows."""
        labels = self.labels
        if len(labels) != 1:
            raise InvalidArgument(f"there are {len(labels)} rows: use .labels")
        return labels[0]

    def _scores(self) -> Any:
        for name in _SCORES:
            if name in self.outputs:
                return self.outputs[name]
        only = next(iter(self.outputs.values())) if len(self.outputs) == 1 else None
        if only is not None and only.ndim == 2 and only.shape[1] == len(self.label_names):
            return only
        raise InvalidArgument(f"no output of {', '.join(self.outputs)} tells classes")

    def _label_name(self, value: object) -> str:
        """A class by name: graphs give either the name itself or its index."""
        if isinstance(value, int) and str(value) not in self.label_names and 0 <= value < len(self.label_names):
            return self.label_names[value]
        return str(value)


def prediction_from(response: InferResponse, label_names: tuple[str, ...] = ()) -> Prediction:
    """A `Prediction` from what the codec decoded."""
    outputs = {tensor.name: _readable(tensor) for tensor in response.outputs}
    return Prediction(
        response.endpoint, response.version, outputs, label_names, id=response.id, parameters=response.parameters
    )


def _readable(tensor: Tensor) -> Array:
    array: Any = tensor.array
    if tensor.datatype == "BF16":
        return widen(array)
    if tensor.datatype == "BYTES":
        return np.array([_text(item) for item in array.reshape(-1)], dtype=object).reshape(array.shape)
    return array  # type: ignore[no-any-return]


def _text(item: object) -> object:
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return item
