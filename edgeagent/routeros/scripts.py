"""The scripts that the router runs by itself. Written for both versions: 7 takes the spaced form of 6 too.

Two scripts only. The flush of the native fallback: with the agent dead nobody else removes rows whose NAT address is
not that of the uplink by which voice goes now; under RouterOS 6 no phone would ever come back (measured in imitation).
And what a DHCP client runs when it is given another address or next hop.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.core.settings import PRIMARY_TAG

FLUSH_POLICY = "read,write"  # all that it needs; netwatch would grant read, write, test and reboot
FLUSH_EVERY = "10s"


def flush(ports: Sequence[tuple[str, str]], tags: Sequence[str], lease_lists: Sequence[str]) -> str:
    """Remove the voice rows that are on the wrong path. ``ports``: tag and port of each path that has native routes,
    the primary first; ``tags``: of all paths.

    Only while none of ``lease_lists`` holds a timed entry: an agent that lives moves its phones one by one. The path in
    use is the first that has an active native route; without any nothing is touched. Pinned media has a mark of its own
    and is left alone, so that calls go on. What counts is the NAT address (``reply-dst-address``), not the mark: a row
    that was never answered bears the mark of the path it was tried on last.
    """
    held = " or ".join(f'list="{name}"' for name in lease_lists)
    lines = [f":if ([:len [/ip firewall address-list find where dynamic=yes and ({held})]] = 0) do={{"]
    lines.append('  :local edgePort ""')
    for tag, port in reversed(ports):
        active = f'[/ip route find where comment~"^edgeagent:native-{tag}-" and active=yes]'
        lines.append(f'  :if ([:len {active}] > 0) do={{ :set edgePort "{port}" }}')
    marks = "|".join(tags)
    lines += [
        '  :local edgeGood ""',
        '  :if ($edgePort != "") do={',
        "    :foreach edgeRow in=[/ip address find where interface=$edgePort and disabled=no] do={",
        "      :local edgeText [/ip address get $edgeRow address]",
        '      :set edgeGood ($edgeGood . "|" . [:pick $edgeText 0 [:find $edgeText "/"]])',
        "    }",
        "  }",
        '  :if ($edgeGood != "") do={',
        '    :set edgeGood ("^(" . [:pick $edgeGood 1 [:len $edgeGood]] . ")(:|\\$)")',
        f'    :foreach edgeRow in=[/ip firewall connection find where connection-mark~"^edge-({marks})\\$" '
        "and !(reply-dst-address~$edgeGood)] do={",
        "      :do { /ip firewall connection remove $edgeRow } on-error={ }",
        "    }",
        "  }",
        "}",
    ]
    return "\n".join(lines)


def repeated(text: str) -> str:
    """The same for netwatch, which tells of a change only: a host's silence is heard of before the router's own check
    has turned its routes, and before an agent's leases have lapsed.
    """
    inner = text.replace("\n", "\n  ")
    return f":for edgeRound from=1 to=10 do={{\n  {inner}\n  :delay 10s\n}}"


def lease(tag: str, rules: str) -> str:
    """Keep the next hop of every route by this path, and of a backup the rule of its own address, as DHCP gives them.

    ``rules``: the menu of the routing rules. Nothing is written that stands so already: a lease is renewed each few
    hours, and each write wears the flash. The variables are those of the manual ("DHCP", DHCP client, script).
    """
    pattern = rf"^edgeagent:(default-edge-{tag}\$|{_BY_GATEWAY.get(tag, f'native-{tag}-')})"
    return "\n".join(
        [
            ":if ($bound = 1) do={",
            '  :local edgeGate [:tostr $"gateway-address"]',
            f'  :foreach edgeRow in=[/ip route find where comment~"{pattern}"] do={{',
            "    :if ([:tostr [/ip route get $edgeRow gateway]] != $edgeGate) do={",
            "      /ip route set $edgeRow gateway=$edgeGate",
            "    }",
            "  }",
            *([] if tag == PRIMARY_TAG else _own(tag, rules.strip("/").replace("/", " "))),
            "}",
        ]
    )


def _own(tag: str, menu: str) -> list[str]:
    return [
        '  :local edgeOwn ([:tostr $"lease-address"] . "/32")',
        f'  :foreach edgeRow in=[/{menu} find where comment="edgeagent:own-{tag}"] do={{',
        f"    :if ([:tostr [/{menu} get $edgeRow src-address]] != $edgeOwn) do={{",
        f"      /{menu} set $edgeRow src-address=$edgeOwn",
        "    }",
        "  }",
    ]


_BY_GATEWAY = {PRIMARY_TAG: "canary-"}  # what goes by the next hop of a path beside its default


def beside(script: str, ours: str) -> str:
    """The owner's ``script`` with ``ours`` after it; what stood between our marks before is replaced."""
    owners = without(script)
    block = f"{BEGIN}\n{ours}\n{END}"
    return f"{owners}\n{block}" if owners else block


def without(script: str) -> str:
    """The owner's part of a script that ours was put beside."""
    before, begun, rest = script.partition(BEGIN)
    after = rest.partition(END)[2] if begun else ""
    return before.rstrip("\r\n") + after if begun else script


BEGIN, END = "# edgeagent: from here", "# edgeagent: to here"
