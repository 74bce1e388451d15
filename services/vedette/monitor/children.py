"""Child processes of the monitor: a module of ours over one folder, with a time limit, and ended with its caller.

Rule: a child sees what it takes to import and no setting or secret of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from vedette.core.errors import DeadlineExceeded

_PASSED_ON = ("PATH", "LANG", "HOME", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


async def run_child(
    module: str, folder: Path, *, timeout_s: float, doing: str, env: Mapping[str, str]
) -> tuple[int, bytes]:
    """Run `python -m module folder` to its end; its exit status and what it wrote to standard error.

    Raises:
        DeadlineExceeded: it took longer than `timeout_s`; `doing` says what.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, str(folder)),
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {**env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):  # wait_for may swallow a cancellation
            _, said = await process.communicate()
    except TimeoutError:
        raise DeadlineExceeded(f"{doing} took over {timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return await process.wait(), said
