"""Makes the stored file of the format that this code writes: ``python -m tests.adapters.stores.make FILE``.

A file of a released format is made once, by the code of that time, and never again: what it proves is that today's
code reads what was written then. Raise FORMAT, run this, commit the file, extend test_store_formats.py.
"""

import asyncio
import sqlite3
import sys
from pathlib import Path

from edgeagent.core.facts import Instant
from edgeagent.store.records import Outgoing, Record
from edgeagent.store.store import Store

NOW = Instant(100.0, "boot-1", 1_800_000_000.0, "synced")
LATER = Instant(250.5, "boot-1", 1_800_000_150.5, "synced")


LONG = [{"path": "primary", "round": number} for number in range(100)]


def _mail(name: str, kind: str) -> Outgoing:
    return Outgoing(name, "i-1", "customer", kind, {"incident": "i-1", "data": {"calls": 2}}, NOW)


async def make(path: Path) -> None:
    """Journal lines, messages in every state, a snapshot, kept values; the outbox's numbers end in a gap."""
    store = await Store.open(path)
    await store.append([Record("start", Instant(1.25, "boot-0")), Record("samples", NOW, {"rounds": [1, None, 2.5]})])
    await store.commit(
        [Record("place", NOW, {"to": "lte", "cause": "Leitung tot: \u00fc"})],
        outbox=[_mail(name, "failover") for name in ("sent@x", "dropped@x", "tried@x", "fresh@x", "merged@x")],
        snapshot=b'{"boot_id":"boot-1"}',
        keep={"adopted": b'{"sip":"no"}', "flush": b""},
    )
    await store.mark_sent("sent@x", LATER, "250 ok")
    await store.mark_try("tried@x", "451 later", LATER, 310.0, maybe_taken=True)
    await store.commit(
        [], outbox=[_mail("gone@x", "restored")], dropped={"dropped@x": "too old"}, merged={"merged@x": "gone@x"}
    )
    await store.append([Record("facts", LATER, LONG)])
    await store.close()
    with sqlite3.connect(path) as raw:  # as after pruning: the next number is 7 all the same
        raw.execute("DELETE FROM outbox WHERE id = 'gone@x'")
    raw.close()


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
