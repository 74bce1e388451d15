"""What a converter returns, and how it gets at packages that may not be installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from types import ModuleType

from vedette.core.errors import Unavailable
from vedette.sdk.documents import SignatureDetails


@dataclass(frozen=True, slots=True)
class Conversion:
    """A graph that was compared with its original, ready for `client.models.register`."""

    onnx: bytes = field(repr=False)
    """The serialized graph. Classifiers give `label` and `probabilities`, regressors `prediction`."""
    signature: SignatureDetails
    rows_compared: int
    largest_difference: float
    """Between the graph and the original over those rows, relative where values are over 1."""


def imported(module: str) -> ModuleType:
    """A package of the extra `convert`.

    Raises:
        Unavailable: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(f"converting needs {module.partition('.')[0]}: pip install 'vedette[convert]'") from error
