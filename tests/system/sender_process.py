"""A process that sends the outbox of a store until it is killed: run by the test of the sender's durability."""

from __future__ import annotations

import asyncio
import sys

from vedette.monitor.alerting.addresses import AddressGuard
from vedette.monitor.alerting.webhooks import Persistence, WebhookSender
from vedette.storage.sql_monitors import SqlMonitorStore


async def main(url: str) -> None:
    """Send with short waits and leases, so that a killed attempt is taken up again soon."""
    store = SqlMonitorStore(url)
    persistence = Persistence(timeout_s=0.5, attempts=8, first_wait_s=0.05, longest_wait_s=0.2)
    guard = AddressGuard(allowed_hosts=("127.0.0.1",))
    sender = WebhookSender(store, guard, persistence=persistence, per_webhook=4, lease_margin_s=0.5)
    print("sending", flush=True)
    await sender.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
