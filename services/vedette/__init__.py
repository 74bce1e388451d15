"""vedette: serve ONNX models and keep watch over them.

Rule: importing this package loads nothing heavy; names are resolved on first use. Their types stand in
`__init__.pyi`, so that no import of this package draws in the SDK.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "vedette.sdk.aio.client",
    "Client": "vedette.sdk.sync.client",
    "Prediction": "vedette.sdk.prediction",
    "AlertRule": "vedette.entities.monitors",
    "CheckSettings": "vedette.entities.monitors",
    "Monitor": "vedette.entities.monitors",
    "AlreadyExists": "vedette.core.errors",
    "Cancelled": "vedette.core.errors",
    "Conflict": "vedette.core.errors",
    "CaptureFailed": "vedette.core.errors",
    "DataLoss": "vedette.core.errors",
    "DeadlineExceeded": "vedette.core.errors",
    "Internal": "vedette.core.errors",
    "InvalidArgument": "vedette.core.errors",
    "ModelFailed": "vedette.core.errors",
    "NotFound": "vedette.core.errors",
    "Overloaded": "vedette.core.errors",
    "PermissionDenied": "vedette.core.errors",
    "TooLarge": "vedette.core.errors",
    "Unauthenticated": "vedette.core.errors",
    "Unavailable": "vedette.core.errors",
    "Unimplemented": "vedette.core.errors",
    "VedetteError": "vedette.core.errors",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'vedette' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
