"""The action that every route and RPC performs: the seam at which authorisation is enforced.

Rule: one table per service, no default; `declarations.py` stops the start-up where an action is missing.
"""

from __future__ import annotations

from typing import Literal, get_args

Action = Literal["predict", "read", "deploy", "admin", "internal"]
"""predict: run a model. read: look at state. deploy: change what serves. admin: delete, approve, configure.
internal: one service speaking to another."""

ACTIONS: frozenset[str] = frozenset(get_args(Action))

OWN_ACTIONS: dict[str, Action] = {
    "GET /livez": "read",
    "GET /readyz": "read",
    "GET /metrics": "read",
    "grpc.health.v1.Health/Check": "read",
    "grpc.health.v1.Health/List": "read",
    "grpc.health.v1.Health/Watch": "read",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "read",
}
"""What the chassis itself adds to every service: routes, and RPCs of its libraries (`List` in newer ones)."""
