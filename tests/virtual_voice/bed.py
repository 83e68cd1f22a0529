"""A small bed for the voice tests: provider, a router with NAT for some phones, phones in namespaces of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hil.virtual import addresses

# Phones behind masquerade; the others are routed, so that both kinds of binding are seen.
NAT_PHONES = (addresses.PHONES[1], addresses.PHONES[2], addresses.PHONES[4])


class Bed:
    """Namespaces ``ebt-pPID-ROLE``: prov -- isp (router) -- bridge -- ph1..ph6."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._roles = ("prov", "isp", *(f"ph{number}" for number in range(1, 7)))

    def name(self, role: str) -> str:
        return f"ebt-p{os.getpid()}-{role}"

    def up(self) -> None:
        for role in self._roles:
            _run("ip", "netns", "add", self.name(role))
            _run("ip", "-n", self.name(role), "link", "set", "lo", "up")
        isp, prov = self.name("isp"), self.name("prov")
        _run("ip", "-n", isp, "link", "add", "prov", "type", "veth", "peer", "name", "eth0", "netns", prov)
        _run("ip", "-n", isp, "link", "add", "br0", "type", "bridge")
        lines = [f"address add {addresses.PROVIDER_GATEWAY}/26 dev prov", f"address add {addresses.ISP_DNS}/32 dev lo"]
        lines += [f"address add {addresses.ROUTER_LAN}/24 dev br0", "link set prov up", "link set br0 up"]
        servers = (addresses.SBC, addresses.FAR_END, addresses.MAIL_SERVER, addresses.PROVIDER_DNS)
        self._batch("prov", [*(f"address add {address}/26 dev eth0" for address in servers), "link set eth0 up"])
        self._batch("prov", [f"route add default via {addresses.PROVIDER_GATEWAY}"])
        for number, address in enumerate(addresses.PHONES, start=1):
            phone = self.name(f"ph{number}")
            _run("ip", "-n", isp, "link", "add", f"ph{number}", "type", "veth", "peer", "name", "eth0", "netns", phone)
            lines += [f"link set ph{number} master br0", f"link set ph{number} up"]
            own = [f"address add {address}/24 dev eth0", "link set eth0 up"]
            self._batch(f"ph{number}", [*own, f"route add default via {addresses.ROUTER_LAN}"])
        self._batch("isp", lines)
        sources = ", ".join(NAT_PHONES)
        chain = f"type nat hook postrouting priority 100\nip saddr {{ {sources} }} masquerade\n"
        rule = f"table ip nat {{\nchain post {{\n{chain}}}\n}}"
        _run("ip", "netns", "exec", isp, "nft", rule)
        # Linux forgets a UDP phone's place behind NAT after 30 s, long before it registers anew: no claim here.
        memory = [f"net.netfilter.nf_conntrack_udp_timeout{kind}=3600" for kind in ("", "_stream")]
        _run("ip", "netns", "exec", isp, "sysctl", "-qw", "net.ipv4.ip_forward=1", *memory)

    def down(self) -> None:
        # Only after a failed start is anything left; a parent's children must go too, so all of the namespace is ended.
        for role in self._roles:
            listed = subprocess.run(
                ["ip", "netns", "pids", self.name(role)], capture_output=True, text=True, check=False
            )
            for pid in listed.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self._started:
            process.wait(5)
        for role in self._roles:
            subprocess.run(["ip", "netns", "del", self.name(role)], capture_output=True, check=False)

    def spawn(self, role: str, argv: Sequence[str], log_name: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{log_name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name(role), *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def processes(self) -> list[str]:
        """Command names of whatever still runs in the bed's namespaces."""
        found = []
        for role in self._roles:
            listed = _run("ip", "netns", "pids", self.name(role)).split()
            found += [Path(f"/proc/{pid}/comm").read_text().strip() for pid in listed if Path(f"/proc/{pid}").exists()]
        return found

    def _batch(self, role: str, lines: Sequence[str]) -> None:
        text = "\n".join(lines) + "\n"
        subprocess.run(["ip", "-n", self.name(role), "-batch", "-"], input=text, text=True, check=True, timeout=10)


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout
