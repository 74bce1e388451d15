"""The action that every route and RPC performs: the seam at which authorisation is enforced.

Rule: one table per service, no default; `declarations.py` stops the start-up where an action is missing.
"""

from __future__ import annotations

from typing import Literal, get_args

Action = Literal["predict", "read", "deploy", "admin", "internal"]
"""predict: run a model. read: look at state. deploy: change what serves. admin: delete, approve, configure.
internal: one service speaking to another."""

ACTIONS: frozenset[str] = frozenset(get_args(Action))
