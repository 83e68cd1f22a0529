"""What a support bundle holds, gathered part by part and redacted. No part may take another down."""

from __future__ import annotations

import json
import queue
import re
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from edgeagent import texts
from edgeagent.cli import known
from edgeagent.cli.status import ask
from edgeagent.config.redact import LEAST_SECRET, Known, Redactor
from edgeagent.config.site import ConfigError, Site, load
from edgeagent.host import machine, service_log
from edgeagent.store import look

GATHER_S = 20.0  # a disk that hangs must not hang the bundle
STATE_FOLDER = "/var/lib/edgeagent"
CONTROL_SOCKET = "/run/edgeagent/control.sock"
LOG_MAX_BYTES = 1 << 19  # a second's work here, ten on a small board
JOURNAL_LINES = 2000
MESSAGES = 200
BATCHES = 24  # of facts: two quiet hours
BULKY = ("facts", "state")  # kinds of the journal that would leave no room for the others
T = TypeVar("T")


class Part(Struct, frozen=True):
    """One file of the bundle, redacted."""

    name: str
    text: str


class Evidence:
    """``missing``: what could not be had, and why, after ``parts``. ``absent``: what this machine does not have."""

    def __init__(self, site_file: Path) -> None:
        self.site_file = site_file
        self.missing: list[str] = []
        self.absent: list[str] = []
        self.broken: ConfigError | None = None
        self.site: Site | None = None
        try:
            self.site = self._within(lambda: load(site_file))
        except ConfigError as error:
            self.broken = error
        except TimeoutError:
            self.missing.append(texts.screen("bundle part", name=str(site_file.name), why=texts.screen("no answer")))
        self.state_folder = Path(self._told("state_folder", STATE_FOLDER))
        self.control_socket = self._told("control_socket", CONTROL_SOCKET)
        self.secrets = self._secrets()
        self.redactor = Redactor(self._known())

    @property
    def site_id(self) -> str:
        """For the bundle's name."""
        return "unknown-site" if self.site is None else self.site.id

    @property
    def short_secrets(self) -> list[str]:
        """Files whose secret is too short to be looked for."""
        return [where for where, secret in self.secrets.values.items() if 0 < len(secret) < LEAST_SECRET]

    def parts(self) -> list[Part]:
        """Everything, the most telling first: what comes last is cut first."""
        gather: dict[str, Callable[[], str | None]] = {
            "status.json": self._status,
            "config.json": self._config,
            "store.json": self._store,
            "versions.json": lambda: self._json(machine.versions()),
            "machine.json": lambda: self._json(machine.facts(self.state_folder, machine.listener(self.control_socket))),
            "network.json": lambda: self._json(machine.network()),
            "journal.jsonl": lambda: self._lines(look.journal(self._file, BULKY, JOURNAL_LINES, but=True)),
            "log.txt": self._log,
            "facts.jsonl": lambda: self._lines(look.journal(self._file, BULKY[:1], BATCHES)),
        }
        found = ((name, self._gathered(name, work)) for name, work in gather.items())
        return [Part(name, text) for name, text in found if text is not None]

    # -- below: the parts --

    def _status(self) -> str:
        try:
            document = ask(self.control_socket)
        except (OSError, ValueError) as error:
            raise OSError(texts.screen("no agent", file=self.control_socket, why=str(error))) from error
        paths = document.get("paths")
        for name, path in paths.items() if isinstance(paths, dict) else ():
            self.redactor.uplink(path.get("address"), name)
        return self._json(self.redactor.status(document), redacted=True)

    def _config(self) -> str:
        if self.site is not None:
            return self._json(self.redactor.config(settings(self.site)), redacted=True)
        problems = [] if self.broken is None else self.broken.problems
        why = texts.screen("bundle config broken", count=len(problems))
        self.missing.append(texts.screen("bundle part", name="config.json", why=why))
        # What was found at a key may be a secret in the wrong place; only a problem of the whole file is told with it.
        told = [{"key": one.key, "expected": one.expected, "found": "" if one.key else one.found} for one in problems]
        return self._json({"problems": told})

    def _store(self) -> str:
        found: dict[str, Any] = {"health": look.health(self._file)}
        if found["health"]["opening"] not in ("good", "missing"):
            why = texts.screen("store not read", what=str(found["health"].get("why", found["health"]["opening"])))
            self._miss("store.json", why)
        try:
            found["outbox"] = look.outbox(self._file, MESSAGES)
        except (OSError, sqlite3.Error):
            found["outbox"] = None  # the health says why
        return self._json(found)

    def _log(self) -> str | None:
        found = service_log.tail(LOG_MAX_BYTES)
        return None if found is None else self.redactor.text(found)

    def _lines(self, entries: list[dict[str, Any]]) -> str | None:
        found = []
        for entry in entries:
            line = {**self.redactor.value(entry | {"data": None}), **self.redactor.record(entry["kind"], entry["data"])}
            found.append(json.dumps(line, ensure_ascii=False) + "\n")
        return "".join(found) or None

    def _json(self, found: Any, *, redacted: bool = False) -> str:
        return json.dumps(found if redacted else self.redactor.value(found), indent=2, ensure_ascii=False) + "\n"

    # -- below: how they are gathered --

    @property
    def _file(self) -> Path:
        return self.state_folder / "store.db"

    def _gathered(self, name: str, work: Callable[[], str | None]) -> str | None:
        try:
            found = self._within(work)
        except TimeoutError:
            self._miss(name, texts.screen("no answer"))
        except OSError as error:
            self._miss(name, f"{error.strerror or error}: {error.filename or ''}".removesuffix(": "))
        except Exception as error:  # noqa: BLE001  (a bundle is made when things are broken, in whatever way)
            self._miss(name, f"{type(error).__name__}: {error}")
        else:
            if found is None:
                self.absent.append(name)
            return found
        return None

    def _miss(self, name: str, why: str) -> None:
        self.missing.append(texts.screen("bundle part", name=name, why=self.redactor.text(why)))

    def _within(self, work: Callable[[], T]) -> T:
        """Raises TimeoutError after GATHER_S, and whatever ``work`` raises."""
        answers: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

        def do() -> None:
            try:
                answers.put((work(), None))
            except BaseException as error:  # noqa: BLE001  (a thread's boundary: the caller gets it)
                answers.put((None, error))

        threading.Thread(target=do, daemon=True).start()
        try:
            found, error = answers.get(timeout=GATHER_S)
        except queue.Empty:
            raise TimeoutError from None
        if error is not None:
            raise error
        return found  # type: ignore[return-value]

    def _told(self, key: str, default: str) -> str:
        """What the site says; where its file is broken, what stands there as far as it can be read."""
        if self.site is not None:
            return str(getattr(self.site, key))
        try:
            text = self._within(lambda: self.site_file.read_text(errors="replace")[: known.SECRET_MAX_BYTES])
        except (OSError, TimeoutError):
            return default
        found = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*[\"']([^\"'\n\0]+)[\"']", text, re.MULTILINE)
        return found[1] if found else default

    def _secrets(self) -> known.Secrets:
        try:
            found = self._within(lambda: known.secrets(self.site_file, self.state_folder))
        except TimeoutError:
            found = known.Secrets({}, {str(self.site_file): texts.screen("no answer")})
        for where, why in found.unread.items():
            self.missing.append(texts.screen("secret unread", file=where, why=why))
        return found

    def _known(self) -> Known:
        values = self.secrets.values
        if self.site is None:
            found = self._within(lambda: known.unparsed(self.site_file, values))
        else:
            found = known.known(self.site, values)
        rows = machine.network()
        own = found.own.union(address.partition("/")[0] for row in rows for address in row["addresses"])
        interfaces = re.findall(known.WORD, " ".join(row["interface"] for row in rows))
        return replace(found, own=own, words=found.words.union(interfaces))


def settings(site: Site) -> dict[str, Any]:
    """The settings in force, by their keys in site.toml."""
    found: dict[str, Any] = {"format": 1, "site.id": site.id, "site.name": site.name, "site.timezone": site.timezone}
    found |= {"agent.address": site.agent_address, "agent.alias_prefix": site.alias_prefix}
    found |= {"agent.state_folder": site.state_folder, "agent.control_socket": site.control_socket}
    groups: dict[str, Struct] = {"router": site.router, "provider": site.provider, "mail": site.mail}
    groups |= {"failback": site.failback, **{f"path.{path.name}": path for path in site.paths}}
    for name, group in groups.items():
        found |= {f"{name}.{key}": value for key, value in asdict(group).items() if key not in ("name", "tag")}
    return {key: msgspec.to_builtins(value) for key, value in found.items()}
