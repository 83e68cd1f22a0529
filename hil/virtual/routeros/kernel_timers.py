"""What runs by itself on the router: /system/scheduler and /tool/netwatch."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from hil.virtual.routeros.access import NETWATCH_POLICIES, Caller
from hil.virtual.routeros.device_mode import allowed
from hil.virtual.routeros.kernel_ping import Answer, Echo
from hil.virtual.routeros.kernel_values import duration_s, enabled
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.scripts import Scripts
    from hil.virtual.routeros.store import Store

# Properties the engine changes by itself; a change of any other one starts the row anew.
_LIVE: Final = frozenset({"run-count", "next-run", "status", "since", "invalid"})


def scheduled(store: Store) -> list[Row]:
    """The rows of /system/scheduler; none where device-mode forbids them."""
    return store.rows("/system/scheduler") if allowed(store, "scheduler") else []


class _Rows:
    """One task for each enabled row, restarted when the row changes."""

    def __init__(self, scripts: Scripts) -> None:
        self.scripts: Final = scripts
        self.live: dict[str, Row] = {}
        self._tasks: dict[str, tuple[Row, asyncio.Task[None]]] = {}

    def sync(self, rows: list[Row], booting: bool = False) -> None:
        """Run exactly these rows."""
        wanted = {row[".id"]: {k: v for k, v in row.items() if k not in _LIVE} for row in enabled(rows)}
        for row_id, (row, task) in list(self._tasks.items()):
            if wanted.get(row_id) != row:
                task.cancel()
                del self._tasks[row_id]
        for row_id in set(self.live) - {row[".id"] for row in rows}:
            del self.live[row_id]
        for row_id, row in wanted.items():
            if row_id not in self._tasks:
                self._tasks[row_id] = (row, asyncio.get_running_loop().create_task(self._run(row, booting)))

    def stop(self) -> None:
        """End all rows."""
        for _row, task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self.live.clear()

    async def _run(self, row: Row, booting: bool) -> None:
        raise NotImplementedError


class Scheduler(_Rows):
    """/system/scheduler. ``start-time=startup`` means at boot; clock times are taken as "one interval from now"."""

    async def _run(self, row: Row, booting: bool) -> None:
        interval_s = duration_s(row.get("interval", ""))
        live = self.live.setdefault(row[".id"], {"run-count": "0"})
        if not (booting and row.get("start-time") == "startup"):
            if not interval_s:
                return
            await asyncio.sleep(interval_s)
        due = time.monotonic()
        while True:
            live["run-count"] = str(int(live["run-count"]) + 1)
            who = f"scheduler {row.get('name', row['.id'])}"
            await self.scripts.run_job(row.get("on-event", ""), who, self.scripts.owner(row))
            if not interval_s:
                return
            due = max(due + interval_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())


class Netwatch(_Rows):
    """/tool/netwatch, types ``simple`` (one echo) and ``icmp`` (a burst judged by loss and time)."""

    def __init__(self, scripts: Scripts, version: str, changed: Callable[[Row], None]) -> None:
        super().__init__(scripts)
        self._old = version.startswith("6")
        self._changed = changed

    async def _run(self, row: Row, booting: bool) -> None:
        self.live[row[".id"]] = {"status": "unknown", "since": ""}
        if booting:  # by default five minutes on RouterOS 7: nothing is watched just after boot
            await asyncio.sleep(duration_s(row.get("startup-delay", "")))
        interval_s = duration_s(row.get("interval", ""), 60.0 if self._old else 10.0)
        for turn in itertools.count():
            started = time.monotonic()
            await self._judge(row, turn)
            await asyncio.sleep(max(0.0, started + interval_s - time.monotonic()))

    async def _judge(self, row: Row, turn: int) -> None:
        try:
            up = await self._icmp(row) if row.get("type") == "icmp" else await self._simple(row, turn)
        except Trap:  # its source address or device is not there now
            up = False
        live = self.live[row[".id"]]
        status = "up" if up else "down"
        if live["status"] == status:
            return
        live.update({"status": status, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        self._changed({".id": row[".id"], **live})
        script = row.get(f"{status}-script", "")
        if script:
            watcher = Caller("*sys", NETWATCH_POLICIES)
            await self.scripts.run_job(script, f"netwatch {row.get('host', '')}", watcher)

    async def _simple(self, row: Row, turn: int) -> bool:
        echo = Echo(source=row.get("src-address", ""))
        try:
            timeout_s = duration_s(row.get("timeout", "")) or (1.0 if self._old else 3.0)
            return (await echo.send(row.get("host", ""), turn, timeout_s)).rtt_s is not None
        finally:
            echo.close()

    async def _icmp(self, row: Row) -> bool:
        """Defaults of RouterOS 7: 10 packets 50 ms apart; down at 85 % loss, 100 ms average, 1 s maximum."""
        count = int(row.get("packet-count") or 10)
        spacing_s = duration_s(row.get("packet-interval", ""), 0.05)
        timeout_s = duration_s(row.get("timeout", "")) or 3.0
        echo = Echo(source=row.get("src-address", ""))

        async def later(number: int) -> Answer:
            await asyncio.sleep(number * spacing_s)
            return await echo.send(row.get("host", ""), number, timeout_s)

        try:
            answers = await asyncio.gather(*map(later, range(count)))
        finally:
            echo.close()
        rtts = [answer.rtt_s for answer in answers if answer.rtt_s is not None]
        return icmp_verdict(row, count, rtts)


def icmp_verdict(row: Mapping[str, str], sent: int, rtts_s: list[float]) -> bool:
    """Whether a burst passes the thresholds of a netwatch row of type icmp."""
    loss_percent = 100.0 * (sent - len(rtts_s)) / sent
    if not rtts_s or loss_percent >= float((row.get("thr-loss-percent") or "85").rstrip("%")):
        return False
    average_s = sum(rtts_s) / len(rtts_s)
    within_average = average_s <= duration_s(row.get("thr-avg", ""), 0.1)
    return within_average and max(rtts_s) <= duration_s(row.get("thr-max", ""), 1.0)
