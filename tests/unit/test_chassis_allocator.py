"""The allocator of a worker that must not keep what large messages took."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, threading
from vedette.chassis.allocator import keep_little
keep_little()
import pyarrow as pa
from vedette.engine.memory import resident_bytes

def work():
    for size in (30 << 20, 20 << 20):  # the first free teaches glibc that such blocks come again
        held = [bytes(size), b"x"]
        del held[0]
    large = [b"\\1" * (3 << 20) for _ in range(20)]
    pin.append(b"p" * 600)
    del large

pin = []
before = resident_bytes()
for _ in range(8):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(json.dumps({"pool": pa.default_memory_pool().backend_name, "kept": resident_bytes() - before}))
"""


def test_what_large_blocks_took_is_given_back() -> None:
    """60 MB in each of eight threads, small blocks on top: gone at once, and Arrow takes from the same allocator.

    In a process of its own, as what is said to the allocator holds for its life; without it 120 MB are kept.
    """
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(said.stdout)
    assert found["pool"] == "system"
    assert found["kept"] < 8 << 20
