"""``edgeagent addresses`` on real cards: two network namespaces with a cable between them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.host import addresses
from hil.virtual import topology_netns as netns
from tests.agent.support import GOOD

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
ALIASES = ["10.88.77.2/29", "10.88.77.3/29"]
ETH_P_ARP = 0x0806
GROUP = ("nogroup", 65534)


class Cable:
    """The agent's machine and another one, as namespaces; ``eth0`` at both ends, the agent's without an address."""

    def __init__(self, folder: Path) -> None:
        self.agent, self.other = (f"edge-{os.getpid()}-{end}" for end in "ab")
        text = GOOD.replace("127.9.9.", "10.88.77.").replace('address = "127.0.0.1"', 'address = "192.168.88.2"', 1)
        self.site = folder / "site.toml"
        self.site.write_text(text.replace("FOLDER", str(folder)))

    def start(self) -> None:
        for name in (self.agent, self.other):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.agent, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.other)
        for name in (self.agent, self.other):
            ip("-n", name, "link", "set", "eth0", "up")

    def stop(self) -> None:
        for name in (self.agent, self.other):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    @contextlib.contextmanager
    def listening(self) -> Iterator[socket.socket]:
        """The other end's ears, for ARP."""
        with netns.inside(self.other, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as ears:
            ears.bind(("eth0", ETH_P_ARP))
            ears.setblocking(False)
            yield ears

    def own_address(self) -> None:
        ip("-n", self.agent, "address", "add", "192.168.88.2/24", "dev", "eth0")

    def holds(self, name: str = "eth0") -> list[str]:
        (card,) = json.loads(ip("-n", self.agent, "-json", "address", "show", "dev", name))
        found = (f"{one['local']}/{one['prefixlen']}" for one in card["addr_info"] if one["family"] == "inet")
        return [one for one in found if one.startswith("10.")]

    def mac(self, of: str) -> str:
        found: str = json.loads(ip("-n", of, "-json", "link", "show", "dev", "eth0"))[0]["address"]
        return found

    def ping_groups(self) -> str:
        command = ["ip", "netns", "exec", self.agent, "cat", str(addresses.PING_GROUPS)]
        return " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    def command(self, *options: str) -> list[str]:
        own = [sys.executable, "-m", "edgeagent", "--site", str(self.site), "addresses", "--group", GROUP[0]]
        return ["ip", "netns", "exec", self.agent, *own, *options]

    def say(self, *options: str) -> tuple[int, str]:
        done = subprocess.run(self.command(*options), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout + done.stderr


def questions(heard: socket.socket) -> int:
    """How many ARP frames about the alias addresses came since the last look."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += any(socket.inet_aton(one.split("/")[0]) in heard.recv(2048) for one in ALIASES)
    return count


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces")
    found = Cable(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def test_what_is_missing_is_added_once_and_taken_off_again(cable: Cable) -> None:
    cable.own_address()
    assert cable.ping_groups() == "1 0"
    with cable.listening() as heard:
        code, said = cable.say("--add")
        assert (code, cable.holds()) == (0, ALIASES), said
        assert cable.ping_groups() == f"{GROUP[1]} {GROUP[1]}"
        assert questions(heard) > 0  # the control: it asks who has them, and tells that it has them now
        code, said = cable.say("--add")
        assert (code, said) == (0, "eth0 has all alias addresses.\n")
        assert questions(heard) == 0, "nothing to check, nothing to wait for"
    assert cable.say("--remove")[0] == 0
    assert (cable.holds(), cable.ping_groups()) == ([], "1 0")
    assert cable.say("--remove") == (0, "")


def test_a_duplicate_is_named_and_refused_until_it_is_gone(cable: Cable) -> None:
    cable.own_address()
    ip("-n", cable.other, "address", "add", ALIASES[1], "dev", "eth0")
    code, said = cable.say("--add")
    assert (code, cable.holds()) == (1, ALIASES[:1]), said
    assert f"10.88.77.3 is in use by {cable.mac(cable.other)} on the network of eth0" in said
    ip("-n", cable.other, "address", "del", ALIASES[1], "dev", "eth0")
    code, said = cable.say("--add")  # the control: it was refused for the duplicate, and for nothing else
    assert (code, cable.holds()) == (0, ALIASES), said


def test_the_neighbours_learn_the_new_owner(cable: Cable) -> None:
    cable.own_address()
    ip("-n", cable.other, "address", "add", "10.88.77.1/29", "dev", "eth0")
    stale = ["lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "stale"]
    ip("-n", cable.other, "neigh", "add", "10.88.77.2", *stale)
    assert cable.say("--add")[0] == 0
    assert cable.mac(cable.agent) in ip("-n", cable.other, "neigh", "show", "10.88.77.2")


def test_a_card_that_comes_late_is_waited_for(cable: Cable) -> None:
    with subprocess.Popen(cable.command("--add"), cwd=ROOT) as running:
        time.sleep(2.0)  # longer than the command takes to start: it waits by now
        assert running.poll() is None
        cable.own_address()
        assert running.wait(60.0) == 0
    assert cable.holds() == ALIASES


def test_a_card_that_does_not_come_is_told(cable: Cable) -> None:
    code, said = cable.say("--add", "--wait", "0.5")
    assert code == 1
    assert "No network card with a link held agent.address 192.168.88.2" in said
    cable.own_address()
    ip("-n", cable.other, "link", "set", "eth0", "down")
    assert cable.say("--add", "--wait", "0.5")[0] == 1, "a card without a carrier is none"


def test_the_addresses_follow_the_agents_to_another_card(cable: Cable) -> None:
    ip("-n", cable.agent, "link", "add", "old0", "type", "veth", "peer", "name", "old1")
    ip("-n", cable.agent, "link", "set", "old0", "up")
    for address in ALIASES:
        ip("-n", cable.agent, "address", "add", address, "dev", "old0")
    cable.own_address()
    assert cable.say("--add")[0] == 0
    assert (cable.holds("old0"), cable.holds()) == ([], ALIASES)


def test_former_aliases_go_and_foreign_addresses_stay(cable: Cable) -> None:
    cable.own_address()
    ip("-n", cable.agent, "address", "add", "10.0.0.9/24", "dev", "eth0")
    assert cable.say("--add")[0] == 0
    cable.site.write_text(cable.site.read_text().replace("10.88.77.3", "10.88.77.4"))
    assert cable.say("--add")[0] == 0
    assert cable.holds() == ["10.0.0.9/24", "10.88.77.2/29", "10.88.77.4/29"]
    cable.say("--remove")
    assert cable.holds() == ["10.0.0.9/24"]


@pytest.mark.parametrize(("before", "code"), [("0 2147483647", 0), ("7 9", 1)])
def test_a_ping_group_range_of_somebody_elses_stays(cable: Cable, before: str, code: int) -> None:
    cable.own_address()
    write = f"echo {before} > {addresses.PING_GROUPS}"
    subprocess.run(["ip", "netns", "exec", cable.agent, "sh", "-c", write], check=True)
    assert cable.say("--add")[0] == code
    assert (cable.ping_groups(), cable.holds()) == (before, ALIASES)
    cable.say("--remove")
    assert cable.ping_groups() == before


OWN, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
WANTED = bytes((10, 88, 77, 2))


@pytest.mark.parametrize(
    ("kind", "mac", "sender", "target", "disputed"),
    [
        (2, THEIRS, WANTED, bytes(4), True),  # an answer from it
        (1, THEIRS, WANTED, b"\x0a\x58\x4d\x01", True),  # a question from it
        (1, THEIRS, bytes(4), WANTED, True),  # another's probe for it
        (1, THEIRS, b"\x0a\x58\x4d\x01", WANTED, False),  # somebody looks for it: no claim
        (2, THEIRS, bytes(4), WANTED, False),  # not a probe
        (1, OWN, bytes(4), WANTED, False),  # our own probe, as a bridge may send it back
        (2, THEIRS, b"\x0a\x58\x4d\x01", bytes(4), False),  # another address
    ],
)
def test_what_disputes_an_address(kind: int, mac: bytes, sender: bytes, target: bytes, disputed: bool) -> None:
    packet = bytes.fromhex("0001080006040000")[:7] + bytes([kind]) + mac + sender + bytes(6) + target
    expected = (WANTED, "02:00:00:00:00:02") if disputed else None
    assert addresses.conflicting(packet, OWN, [WANTED]) == expected
    assert addresses.conflicting(packet[:27], OWN, [WANTED]) is None
