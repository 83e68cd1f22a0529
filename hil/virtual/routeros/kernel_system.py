"""The programs and switches behind the plane: ``ip``, ``nft`` and sysctl, all in the process's own namespace."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from hil.virtual.routeros.kernel_values import duration_s, is_set
from hil.virtual.routeros.plane import Row, Trap

_SYSCTL: Final = Path("/proc/sys/net")
_RP_FILTER: Final = {"no": "0", "strict": "1", "loose": "2"}

# RouterOS /ip/firewall/connection/tracking -> net.netfilter.nf_conntrack_*, in seconds.
_TIMEOUTS: Final = {
    "udp-timeout": "udp_timeout",
    "udp-stream-timeout": "udp_timeout_stream",
    "icmp-timeout": "icmp_timeout",
    "generic-timeout": "generic_timeout",
    "tcp-syn-sent-timeout": "tcp_timeout_syn_sent",
    "tcp-syn-received-timeout": "tcp_timeout_syn_recv",
    "tcp-established-timeout": "tcp_timeout_established",
    "tcp-fin-wait-timeout": "tcp_timeout_fin_wait",
    "tcp-close-wait-timeout": "tcp_timeout_close_wait",
    "tcp-last-ack-timeout": "tcp_timeout_last_ack",
    "tcp-time-wait-timeout": "tcp_timeout_time_wait",
    "tcp-close-timeout": "tcp_timeout_close",
    "tcp-max-retrans-timeout": "tcp_timeout_max_retrans",
    "tcp-unacked-timeout": "tcp_timeout_unacknowledged",
}
# RouterOS 7's defaults for UDP. RouterOS 6's kernel is imitated by one timer for both: there a single answer put a row
# on the long one.
_UDP_TIMEOUTS_S: Final = {"7": {"udp_timeout": 10, "udp_timeout_stream": 180}, "6": dict.fromkeys(
    ("udp_timeout", "udp_timeout_stream"), 180)}  # fmt: skip


async def run(program: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
    """Run a program; its exit code, output and complaints."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, complaint = await process.communicate(text.encode())
    return process.returncode or 0, output.decode(), complaint.decode()


async def ip_batch(lines: Iterable[str]) -> str:
    """Run lines of ``ip`` in one process, going on after a refusal; what it complained about."""
    text = "\n".join(lines)
    if not text:
        return ""
    _code, _output, complaint = await run("ip", "-force", "-batch", "-", text=text + "\n")
    return complaint


async def nft(text: str) -> None:
    """One nftables transaction: all of it or nothing; raises Trap with nft's reason."""
    code, _output, complaint = await run("nft", "-f", "-", text=text)
    if code:
        lines = [line for line in complaint.splitlines() if line.strip()]
        reason = lines[0].partition("Error: ")[2] or lines[0] if lines else "no reason given"
        raise Trap(f"virtual router: nft refused this: {reason} ({' '.join(lines[1:2])})")


async def counters(table: str) -> dict[str, tuple[int, int]]:
    """Packets and bytes of every counter object of a table."""
    code, output, _complaint = await run("nft", "-j", "list", "counters", "table", *table.split())
    if code:
        return {}
    found = [item["counter"] for item in json.loads(output)["nftables"] if "counter" in item]
    return {each["name"]: (each["packets"], each["bytes"]) for each in found}


def sysctl(name: str, value: str) -> None:
    """Write one switch below net; one this kernel lacks is passed over."""
    path = _SYSCTL / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)


def apply_settings(settings: Mapping[str, str]) -> None:
    """/ip/settings, and what a router never does: send or believe ICMP redirects."""
    sysctl("ipv4/ip_forward", "1" if is_set(settings, "ip-forward", default=True) else "0")
    mode = _RP_FILTER.get(settings.get("rp-filter", "no"), "0")
    for each in sorted((_SYSCTL / "ipv4/conf").iterdir()):
        for name, value in (
            ("rp_filter", mode),
            ("send_redirects", "0"),
            ("accept_redirects", "0"),
            ("promote_secondaries", "1"),
        ):
            sysctl(f"ipv4/conf/{each.name}/{name}", value)


def apply_tracking(tracking: Row, version: str) -> None:
    """Connection tracking: accounting, start times, and the timers."""
    sysctl("netfilter/nf_conntrack_acct", "1")
    sysctl("netfilter/nf_conntrack_timestamp", "1")
    timers = dict(_UDP_TIMEOUTS_S["6" if version.startswith("6") else "7"])
    for name, kernel in _TIMEOUTS.items():
        fixed = version.startswith("6") and name.startswith("udp-")
        if tracking.get(name) and not fixed:
            timers[kernel] = round(duration_s(tracking[name]))
    for kernel, seconds in timers.items():
        sysctl(f"netfilter/nf_conntrack_{kernel}", str(seconds))
