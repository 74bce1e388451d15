"""The action that every route and RPC performs: the seam at which authorisation is enforced.

Rule: one table per service, no default; a route without an action stops the start-up.
"""

from __future__ import annotations

from typing import Literal

Action = Literal["predict", "read", "deploy", "admin", "internal"]
"""predict: run a model. read: look at state. deploy: change what serves. admin: delete, approve, configure.
internal: one service speaking to another."""
