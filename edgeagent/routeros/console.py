"""How the RouterOS console is written: words, strings, lines. Pure. Both versions read what is written here.

As ``/export`` writes it, for that is what the console is known to read back. One thing is stricter: every text that is
not plainly a number, a name or a list of these is put between quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from edgeagent.routeros.rows import TAG

WIDTH = 110  # of a line, where it can be broken
INDENT = "    "
_PLAIN = re.compile(r"!?[A-Za-z0-9_./,-]+")
# All that is not shown as it is within quotes; "?" too, which asks version 6 for help even there.
_ESCAPED = re.compile(r"[^ !#%-&'()*+,\-./0-9:;<=>@A-Z\[\]^_`a-z{|}~]")
# A text of several lines goes on in the next line, as exports write it; blanks at the beginning of a line mean nothing.
_KNOWN = {"\n": f"\\\n{INDENT}\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\", "$": "\\$"}
_BARE = {("/ip/route", "blackhole"), ("/routing/table", "fib")}  # flags that version 7 takes without a value only

LISTS = "/ip/firewall/address-list"


def path(menu: str) -> str:
    """A menu as both versions read it: ``/ip firewall nat``."""
    return "/" + menu.strip("/").replace("/", " ")


def text(value: str) -> str:
    """A value between quotes."""
    return f'"{_ESCAPED.sub(_escaped, value)}"'


def _escaped(found: re.Match[str]) -> str:
    return _KNOWN.get(found.group()) or "".join(f"\\{byte:02X}" for byte in found.group().encode())


def value(given: str) -> str:
    """A value, quoted where the console could take it for something else."""
    return given if _PLAIN.fullmatch(given) else text(given)


def words(menu: str, attributes: Mapping[str, str]) -> list[str]:
    """``name=value`` for each."""
    return [name if (menu, name) in _BARE and not of else f"{name}={value(of)}" for name, of in attributes.items()]


def command(parts: Sequence[str]) -> str:
    """One command, on several lines where it is long."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part.partition("\n")[0]) + 3 <= WIDTH:
            lines[-1] += f" {part}"
        else:
            lines[-1] += " \\"
            lines.append(INDENT + part)
        lines = "\n".join(lines).split("\n")
    return "\n".join(lines)


def file(head: str, sections: Iterable[tuple[str | None, Iterable[str]]]) -> str:
    """A script: what it is, then its parts, each under a remark; one without lines is left out."""
    parts = [remark(head)]
    for said, lines in sections:
        if found := list(lines):
            parts.append("\n".join([*([] if said is None else [remark(said)]), *found]))
    return "\n\n".join(parts) + "\n"


def remark(said: str) -> str:
    """A text that does nothing."""
    return "\n".join(f"# {line}" for line in said.split("\n"))


def refuse(counted: str, compared: str, said: str) -> str:
    """Stop with a message where a count compares so, such as ``> 0``."""
    return f":if ({counted} {compared}) do={{ :error {text(said)} }}"


def count(menu: str, where: str) -> str:
    """How many rows of a menu are such."""
    return f"[:len [{path(menu)} find where {where}]]"


OURS = f"comment~{text(f'^{TAG}')}"


def standing(menu: str) -> str:
    """Rows of ours in a menu. Timed entries are the agent's and go by themselves."""
    return OURS + " and dynamic=no" * (menu == LISTS)
