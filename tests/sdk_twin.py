"""Generates `vedette/sdk/sync` from `vedette/sdk/aio`: the synchronous client is never edited by hand.

python -m tests.sdk_twin          write the files
python -m tests.sdk_twin --check  fail if they are not what would be written
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SDK = Path(__file__).parents[1] / "services" / "vedette" / "sdk"
HEADER = "# Generated from vedette/sdk/aio by `python -m tests.sdk_twin`: change that and run it again.\n"

RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\basyncio\b", "time"),
    (r"\bAsync(Connection|Client|Models|Endpoints|Baselines|Monitors|Alerts|Webhooks)\b", r"\1"),
    (r"\bAsync(Iterator|BaseTransport|HTTPTransport)\b", r"\1"),
    (r"\bhttpx\.BaseTransport\b", "httpx.BaseTransport"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\bvedette\.sdk\.aio\b", "vedette.sdk.sync"),
    (r"^import time\nimport time$", "import time"),
    (r"The client for asyncio, written by hand.*", "The client without asyncio, generated from `vedette.sdk.aio`."),
]


def twin(source: str) -> str:
    """The synchronous form of an asynchronous module, in the house's format."""
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    for command in (
        ["check", "--quiet", "--fix-only", "--unsafe-fixes", "--select", "I,F401,UP028", "-"],
        ["format", "--quiet", "-"],
    ):
        command = [sys.executable, "-m", "ruff", *command[:-1], "--stdin-filename", str(SDK / "sync" / "x.py"), "-"]
        source = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    return HEADER + source


def main() -> int:
    """Write or check every file; the number of files that differ is what `--check` fails on."""
    stale = []
    for path in sorted((SDK / "aio").glob("*.py")):
        wanted, target = twin(path.read_text()), SDK / "sync" / path.name
        if not target.exists() or target.read_text() != wanted:
            stale.append(target.name)
            if "--check" not in sys.argv:
                target.write_text(wanted)
    extra = {path.name for path in (SDK / "sync").glob("*.py")} - {path.name for path in (SDK / "aio").glob("*.py")}
    if extra:
        print(f"no source: {', '.join(sorted(extra))}")
    if stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: {', '.join(stale)}")
    return 1 if extra or (stale and "--check" in sys.argv) else 0


if __name__ == "__main__":
    sys.exit(main())
