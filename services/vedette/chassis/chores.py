"""Background tasks of a service.

Rule: a task that fails unexpectedly is logged and begun again; one that returns has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)
_RESTART_S = 1.0


async def kept_alive(work: Callable[[], Awaitable[Any]]) -> None:
    """Do the work until it returns or is cancelled."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a background task failed and is begun again")
            await asyncio.sleep(_RESTART_S)
        else:
            return
