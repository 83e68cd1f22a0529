"""What may leave the site in a support bundle, and what may stand in a log (clauses X4 and P5).

Two layers. What has a known shape, or is known by its value, is taken out wherever it stands: secrets, SIP users, mail
addresses, telephone numbers, names where a header or a key says that one follows. And only words pass that are known
to be harmless: those of this program, which the caller hands in. A caller's name in another program's message has no
shape, so it is told from a word only by not being one of ours.

``line`` is for what stays on the agent's own machine: addresses of the site stand. ``text`` is for a bundle: addresses
become pseudonyms, the same in every file of one bundle and without meaning in the next. No I/O.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

LEAST_SECRET = 6  # characters; a shorter one stands in too many words to be looked for
INT_MAX = 999_999  # a bare whole number above may be a telephone number: seven digits are a local one
WITHHELD = "[withheld]"

# The rows of the status document that may leave, and the kinds of the journal whose data may. A new one is withheld
# until somebody has thought about it and written it down here; the tests ask for that.
STATUS_KEYS = frozenset(
    """format site path phase since_s incident waiting failovers_today paths phones calls router faults store events
    mail plan version rows""".split()  # noqa: SIM905  (a list of words is easier to read and to add to)
)
JOURNAL_KINDS = frozenset(
    ("path", "place", "fault raised", "fault cleared", "notice", "facts", "gap", "stopped", "started", "sent")
) | {"settings adopted", "drift found", "drift mended", "led by", "router access"}
# Numbers with a unit in their name are measurements however large they are, and so are these.
MEASURES = re.compile(r".*(_s|_bytes|_wall)|wall|seq")
# The keys of site.toml that may leave, besides those that hold a number. Who is told, by which account and what the
# site is called stays here.
CONFIG_KEYS = frozenset(
    """format site.id site.timezone agent.address agent.alias_prefix agent.state_folder agent.control_socket
    router.address router.port router.user router.password_file router.certificate router.lan_interface
    router.alias_address router.profile voice.lans voice.resolvers
    path.*.interface path.*.kind path.*.gateway path.*.source path.*.targets path.*.modem_page path.*.probe
    provider.registrar provider.registrar_port provider.prefixes
    provider.media_prefixes provider.further_prefixes provider.ipv6_prefixes
    mail.server mail.port mail.security mail.server_name mail.password_file mail.ca_file mail.delay_s""".split()  # noqa: SIM905
)
# Words of other programs that a log may hold: systemd, OpenSSL, mail servers, RouterOS.
SYSTEM_WORDS = frozenset(
    re.findall(
        r"[A-Za-z]{2,}",
        """systemd journal begin logs boot Reboot entries No Started Starting Stopped Stopping Stopping Deactivated
        successfully Failed Main main process exited code killed dumped status Scheduled restart job counter is at
        Watchdog watchdog timeout limit Killing with signal Consumed CPU time result exit core service Service unit
        INFO WARNING ERROR CRITICAL DEBUG Traceback most recent call last File line in During handling of the above
        exception another occurred was direct cause following raise from
        SSL TLS certificate verify failed self signed expired unable to get local issuer hostname mismatch not valid
        handshake alert unknown authority wrong version number unexpected eof
        Requested action taken mailbox unavailable Relay relaying denied access Recipient recipient Sender sender
        address rejected greylisted Greylisting Try try again later User user Authentication authentication credentials
        invalid bad Temporary temporary Service closing transmission channel Too many connections quota exceeded
        message size too large rejected spam blocked policy domain sorry Ok OK accepted queued
        failure already have such entry no item command prefix cannot log name or password not enough permissions
        input does match any value ambiguous expected end missing interrupted fatal
        x86 aarch64 armv7l Linux linux SMP PREEMPT rpi Debian glibc ext4 overlay tmpfs vfat btrfs xfs
        Errno errno Using selector EpollSelector
        SIGTERM SIGKILL SIGABRT SIGINT SIGHUP SIGSEGV KILL TERM ABRT HUP SEGV INT""",
    )
)
NOT_WORDS = frozenset(("Brown", "Max"))  # of this program's words those that people are called
_IPV4 = r"\d{1,3}(?:\.\d{1,3}){3}"
_DIGITS = r"\+?\(?\d(?:[ \t().\-/\u00a0\u2010-\u2015]{0,3}\d){6,}"
_SHAPES = {  # in this order: the first that fits at a place wins
    "key": r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)",
    "ours": r"(?!)",
    "sip": r"(?i:\bsips?:|\btel:)(?:[^\s@<>\"',;]{1,200}@[^\s<>\"',;)\]]+|[+(\d][\d().\-]{3,}|(?!\d|\[)[A-Za-z][\w.\-]*"
    r"(?=[>;\s]|$))(?:;[\w=.\-]+)*",
    "mail": r"[\w.!#$%&*+/=?^`{|}~-]{1,64}@[\w-]{1,255}(?:\.[\w-]{1,255})*",
    "uuid": r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    "incident": r"\b(?=[0-9]*[a-f])[0-9a-f]{8}-[0-9a-f]{1,12}\b",
    "mac": r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b",
    "date": r"(?<!\d)(?:19|20)\d\d-[01]\d-[0-3]\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,6})?)?)?"
    r"(?:Z|[+-]\d\d:?\d\d)?(?!\d)",
    "ipv4": rf"(?<![\d.])(?P<v4>{_IPV4})(?![\d]|\.\d)",
    "ipv6": r"(?<![\w:.])(?P<v6>[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{0,40})(?:%\w+)?(?![\w])",
    "decimal": r"(?<![\d.+])(?!\d{3}\.\d{4}(?!\d))\d{1,6}\.\d{1,6}(?![\d.\-(/])",
    "number": rf"(?:%2[Bb])?{_DIGITS}",
}
_KEPT = frozenset(("ours", "uuid", "incident", "date", "decimal"))
_CREDENTIAL = re.compile(
    r"(?i)\b((?:password|passwd|passphrase|pwd|secret|token|api[-_]?key|private[-_]?key|authorization"
    r"|auth[ ]?(?:plain|login))"
    r"['\"]?[ \t]*[=: ][ \t]*)(?:(?:basic|bearer|digest)[ \t]+)?(\"[^\"\n]*\"|'[^'\n]*'|(?![\[(])\S{6,})"
)
_PERSON = re.compile(
    r"((?:^|[\s;,(])(?:From|To|Contact|Reply-To|P-Asserted-Identity|P-Preferred-Identity|Remote-Party-ID|Diversion"
    r"|Subject)[ \t]*:[ \t]*)[^\n]+"
    r"|(\b(?i:caller(?:[-_ ]?(?:id|name|number))?|callee|cnam|display[-_ ]?name|comment|host-name|dialled|dialed)"
    r"['\"]?[ \t]*[=:][ \t]*)(\"[^\"\n]*\"|'[^'\n]*'|[^,;\n}\])]+)",
    re.MULTILINE,
)
_DISPLAY = re.compile(r"\"[^\"\n]{1,80}\"(?=[ \t]*<?\[sip\])")
_WORD = r"[^\W\d_]{2,}"
_LAN = [
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
]
_NOBODY = [ipaddress.ip_network(text) for text in ("0.0.0.0/32", "127.0.0.0/8", "::/128", "::1/128")]


class Known(Struct, frozen=True):
    """What is known of the site. ``secrets``: by where they stand. ``names``: of persons and of the site, mail
    addresses, accounts. ``own``: addresses that may stand. ``words``: those that may, beyond SYSTEM_WORDS.
    """

    site: str = ""
    secrets: Mapping[str, str] = {}
    names: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()


class Redactor:
    """Redacts, and counts what it withheld by kind (``withheld``) and the pseudonyms it gave (``aliases``)."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.withheld: Counter[str] = Counter()
        self.aliases: Counter[str] = Counter()
        self._aliases: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._words = (known.words | SYSTEM_WORDS) - NOT_WORDS | {
            "far",
            "phone",
            "secret",
            "name",
            "withheld",
            *_SHAPES,
        }
        shapes = dict(_SHAPES)
        if known.site:  # the id, and message ids made of it, which name an incident and no person
            shapes["ours"] = (
                rf"(?<!\w){re.escape(known.site)}(?:\.[a-z0-9-]{{1,40}}){{1,5}}@[\w.-]{{1,255}}|(?<!\w){re.escape(known.site)}(?!\w)"
            )
        self._shape = re.compile("|".join(f"(?P<{name}>{shape})" for name, shape in shapes.items()), re.DOTALL)
        kept = "|".join(shapes[name] for name in ("ours", "uuid", "incident", "mac", "ipv6"))
        self._word = re.compile(f"(?P<kept>{kept})|{_WORD}")
        self._literals = _literals(known)

    def line(self, text: str) -> str:
        """Free text for the agent's own machine."""
        return self._known_words(self._patterns(text, addresses=False), addresses=False)

    def text(self, text: str) -> str:
        """Free text for a bundle."""
        if text not in self._texts:
            self._texts[text] = self._known_words(self._patterns(text, addresses=True), addresses=True)
        return self._texts[text]

    def value(self, value: Any, key: str = "", *, counted: bool = False) -> Any:
        """What JSON can hold, for a bundle. ``key``: the name under which it stood. ``counted``: no number in it can be
        one that somebody dialled.
        """
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(one, str(name), counted=counted) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one, key, counted=counted) for one in value]
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool | float | None):
            return value
        if isinstance(value, int):
            small = counted or abs(value) <= INT_MAX or MEASURES.fullmatch(key)
            return value if small else self._instead("number", WITHHELD)
        return self._instead("value", WITHHELD)

    def learn(self, address: str) -> None:
        """One more address of the site's own."""
        self.known = replace(self.known, own=self.known.own | {address})

    def status(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The status document: the rows of STATUS_KEYS."""
        return self._listed(document, lambda key: key in STATUS_KEYS)

    def config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration as one table of full keys: the values of CONFIG_KEYS."""

        def listed(key: str) -> bool:
            return isinstance(settings[key], int | float) or re.sub(r"^path\.\w+\.", "path.*.", key) in CONFIG_KEYS

        return self._listed(settings, listed)

    def record(self, kind: str, data: Any) -> dict[str, Any]:
        """A line of the journal: kinds of JOURNAL_KINDS with their data, others without."""
        if kind not in JOURNAL_KINDS:
            return {"kind": self.text(kind), "data": self._instead("journal kind", WITHHELD)}
        return {"kind": kind, "data": self.value(data, counted=kind == "facts")}  # their types are the core's

    def uplink(self, address: Any, path: str) -> None:
        """An address of the site's own that changes: it goes by the name of its path."""
        fits = isinstance(address, str) and re.fullmatch(_IPV4, address) and path in self._words
        if fits and address not in self._aliases:
            self._aliases[address] = f"uplink-{path}"
            self.aliases["uplink"] += 1

    def _listed(self, table: Mapping[str, Any], listed: Callable[[str], bool]) -> dict[str, Any]:
        return {
            self.text(key): self.value(value, key) if listed(key) else self._instead("unlisted key", WITHHELD)
            for key, value in table.items()
        }

    def _patterns(self, text: str, *, addresses: bool) -> str:
        for found, kind in self._literals:
            text = found.sub(partial(self._literal, kind), text)
        text = _CREDENTIAL.sub(lambda match: match[1] + self._instead("secret"), text)
        text = self._shape.sub(lambda match: self._shaped(match, addresses), text)
        text = _DISPLAY.sub(lambda _: self._instead("name"), text)
        return _PERSON.sub(lambda match: (match[1] or match[2]) + self._instead("name"), text)

    def _literal(self, kind: str, _match: re.Match[str]) -> str:
        return self._instead(kind)

    def _shaped(self, match: re.Match[str], addresses: bool) -> str:
        kind, whole = match.lastgroup or "", match[0]
        if kind in ("v4", "v6"):
            kind = "ipv4" if kind == "v4" else "ipv6"
        if kind in _KEPT:
            return whole
        if kind == "mac":
            return self._alias("mac", whole.lower().replace("-", ":")) if addresses else whole
        return self._address(whole, kind, addresses) if kind in ("ipv4", "ipv6") else self._instead(kind)

    def _address(self, text: str, kind: str, addresses: bool) -> str:
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:  # a time of day, or four numbers that are none
            return text if kind == "ipv6" else self._instead("number")
        if str(address) in self.known.own or any(address in network for network in _NOBODY):
            return text
        local = any(address in network for network in _LAN)
        if addresses:
            return self._alias("phone" if local else "far", str(address))
        return text if local else self._instead("address")

    def _alias(self, group: str, address: str) -> str:
        if address not in self._aliases:
            self.aliases[group] += 1
            self._aliases[address] = f"{group}-{self.aliases[group]}"
        return self._aliases[address]

    def _known_words(self, text: str, *, addresses: bool) -> str:
        def look(match: re.Match[str]) -> str:
            kept, address = match["kept"], match["v6"]
            if address is not None:  # whether it is one, or a time of day
                kept = address in self.known.own or not re.search("[^\\W\\d]", address) or not addresses
            return match[0] if kept or match[0] in self._words else self._instead("word", "…")

        return self._word.sub(look, text)

    def _instead(self, kind: str, shown: str = "") -> str:
        self.withheld[kind] += 1
        return shown or f"[{kind}]"


def found_secrets(content: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Where the secrets stand that are in ``content``, as they are or encoded; empty where none is."""
    return [where for where, secret in secrets.items() if any(form in content for form in _forms(secret))]


def searchable(secrets: Mapping[str, str]) -> dict[str, str]:
    """Each secret, and each line of one of several lines, that is long enough to be looked for."""
    found = {}
    for where, secret in secrets.items():
        parts = [part.strip() for part in secret.splitlines() if not part.startswith("-----")]
        for number, part in enumerate(parts, 1):
            if len(part) >= LEAST_SECRET:
                found[where if len(parts) == 1 else f"{where}, line {number}"] = part
    return found


def _literals(known: Known) -> list[tuple[re.Pattern[str], str]]:
    """What is looked for by its value: the longest first, so that no part of one is left over."""
    secrets = sorted(searchable(known.secrets).values(), key=len, reverse=True)
    names = sorted((name for name in known.names if len(name) >= 3), key=len, reverse=True)
    found = [(re.compile("|".join(re.escape(form) for form in _texts(secret))), "secret") for secret in secrets]
    return [*found, *((re.compile(rf"(?i)(?<!\w){re.escape(name)}(?!\w)"), "name") for name in names)]


def _texts(secret: str) -> list[str]:
    """How a text that quotes the secret may spell it."""
    return [form.decode() for form in sorted(_forms(secret), key=len, reverse=True)]


def _forms(secret: str) -> Iterable[bytes]:
    """As it is, as JSON, Python and a URL write it, and as base64 at each of its three positions (RFC 4648)."""
    raw = secret.encode()
    forms = {raw, msgspec.json.encode(secret)[1:-1], repr(secret)[1:-1].encode(), quote(secret, safe="").encode()}
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw)
        # The first and the last sign also depend on what stands beside the secret.
        core = coded[(0, 2, 3)[before] : len(coded) - (0, 3, 2)[(before + len(raw)) % 3]]
        if len(core) >= LEAST_SECRET:
            forms.add(core)
    return forms
