"""A program for the concurrency tests: several threads that write to one catalog, counting in one record.

    python writers.py URL WHO THREADS TRANSACTIONS

It prints the revisions that it was given, as a JSON list.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from vedette.storage.sql import SqlCatalog
from vedette.testing.samples import deployment


def write(catalog: SqlCatalog, who: str, transactions: int) -> list[int]:
    """Count one up in the model's tags and log it, again and again."""
    revisions = []
    for _ in range(transactions):
        with catalog.transaction() as tx:
            model = tx.model("m")
            count = int(model.tags.get("count", "0")) + 1
            tx.update_model(replace(model, tags={"count": str(count)}))
            revisions.append(tx.append_change(who, deployment(who, count)))
    return revisions


def main() -> None:
    """Open the catalog as a starting service does, wait for the word, write, and report."""
    url, who, threads, transactions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    catalog = SqlCatalog(url)
    catalog.migrate()
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(write, catalog, f"{who}{thread}", transactions) for thread in range(threads)]
        print(json.dumps([revision for job in jobs for revision in job.result()]))
    catalog.close()


if __name__ == "__main__":
    main()
