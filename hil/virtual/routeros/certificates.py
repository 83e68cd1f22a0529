"""``/certificate``: PEM files, certificates signed with their own key, and the TLS that a service with one offers.

A certificate and its key may come in one file or one after the other (MikroTik manual, "Certificates"). Without a
certificate a service offers anonymous Diffie-Hellman only, which no client of today accepts: the handshake fails.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
import ssl
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from hil.virtual.routeros.access import Caller
from hil.virtual.routeros.plane import Row, Trap

if TYPE_CHECKING:
    from hil.virtual.routeros.engine import Answer, Engine
    from hil.virtual.routeros.files import Files
    from hil.virtual.routeros.store import Entry

CERTIFICATE: Final = "/certificate"
_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----\n?", re.DOTALL)


class Certificates:
    """The certificates of one router."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._store = engine.store
        self._files = files
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def import_file(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        """``/certificate/import``; its answer counts what it found."""
        name = values["file-name"]
        data = self._files.read(name)
        if data is None:
            raise Trap("failure: file does not exist")
        blocks = [(found[1].decode(), found[0]) for found in _BLOCK.finditer(data)]
        counts = dict.fromkeys(
            ("certificates-imported", "private-keys-imported", "files-imported", "decryption-failures"), 0
        )
        counts["keys-with-no-certificate"] = 0
        for pem in [pem for kind, pem in blocks if kind == "CERTIFICATE"]:
            counts["certificates-imported"] += await self._add(values, x509.load_pem_x509_certificate(pem))
        for pem in [pem for kind, pem in blocks if kind.endswith("PRIVATE KEY")]:
            key = _opened(pem, values.get("passphrase", ""))
            counts["decryption-failures"] += key is None
            if key is not None:
                found = await self._assign(key)
                counts["private-keys-imported" if found else "keys-with-no-certificate"] += 1
        counts["files-imported"] = int(bool(blocks))
        yield "done", {name: str(count) for name, count in counts.items()}

    async def add(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        """``/certificate/add``: what a certificate is to say; it has neither key nor signature yet."""
        menu = self._store.menus[CERTIFICATE]
        await self._engine.write_rows(menu, lambda: self._store.add(menu, {"name": values["common-name"], **values}))
        yield "done", {}

    async def sign(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        """``/certificate/sign`` without a CA: a key, and a certificate signed with it."""
        row = self._row(values["number"])
        if "pem" in row.values:
            raise Trap("failure: already signed")
        certificate, pem = await asyncio.to_thread(_signed, row.values)
        changes = {**_described(certificate), "key-pem": pem, "private-key": "true"}
        menu = self._store.menus[CERTIFICATE]
        await self._engine.write_rows(menu, functools.partial(self._store.set, menu, [row.id], changes))
        yield "done", {}

    async def export(self, values: Row, _caller: Caller) -> AsyncIterator[Answer]:
        """``/certificate/export-certificate``: a PEM file without the key, which would need a passphrase."""
        row = self._row(values["numbers"]).values
        if "pem" not in row:
            raise Trap("failure: not signed")
        await self._files.write(f"cert_export_{row['name']}.crt", row["pem"].encode())
        yield "done", {}

    def _row(self, name: str) -> Entry:
        return self._store.find(CERTIFICATE, name)

    def context(self, name: str) -> ssl.SSLContext | None:
        """TLS with the certificate of this name; None where there is none, or none with a key."""
        held = [entry.values for entry in self._store.entries(CERTIFICATE) if entry.values["name"] == name]
        if not held or "key-pem" not in held[0]:
            return None
        pem = held[0]["pem"] + held[0]["key-pem"]
        if pem not in self._contexts:
            self._contexts[pem] = _context(pem)
        return self._contexts[pem]

    async def _add(self, values: Row, certificate: x509.Certificate) -> bool:
        """Whether the certificate is new here."""
        menu = self._store.menus[CERTIFICATE]
        row = _described(certificate)
        if any(entry.values.get("fingerprint") == row["fingerprint"] for entry in self._store.entries(CERTIFICATE)):
            return False
        first = values.get("name") or f"{values['file-name'].rpartition('/')[2]}_0"
        numbered = (f"{first.removesuffix('_0')}_{number}" for number in itertools.count(1))
        taken = self._store.names(CERTIFICATE)
        name = next(each for each in itertools.chain([first], numbered) if each not in taken)
        trusted = values.get("trusted", "true")
        await self._engine.write_rows(menu, lambda: self._store.add(menu, {**row, "name": name, "trusted": trusted}))
        return True

    async def _assign(self, key: PrivateKeyTypes) -> bool:
        """Give a key to the certificate it belongs to, if that is here."""
        menu = self._store.menus[CERTIFICATE]
        mine = _spki(key.public_key())
        changes = {"key-pem": _pem(key), "private-key": "true"}
        for entry in self._store.entries(CERTIFICATE):
            pem = entry.values.get("pem")
            if pem is not None and _spki(x509.load_pem_x509_certificate(pem.encode()).public_key()) == mine:
                await self._engine.write_rows(menu, functools.partial(self._store.set, menu, [entry.id], changes))
                return True
        return False


def _signed(wished: Row) -> tuple[x509.Certificate, str]:
    """The certificate that a row asks for, and its key as PEM. Takes up to a second."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    size = wished.get("key-size", "2048")
    key = rsa.generate_private_key(65537, int(size)) if size.isdigit() else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, wished["common-name"])])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=int(wished.get("days-valid", "365"))))
        .sign(key, hashes.SHA256())
    )
    return made, _pem(key)


def _pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _described(certificate: x509.Certificate) -> Row:
    row = {
        "common-name": _common_name(certificate.subject),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial-number": f"{certificate.serial_number:X}",
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "invalid-before": certificate.not_valid_before_utc.strftime("%Y-%m-%d %H:%M:%S"),
        "invalid-after": certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S"),
        "pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
    }
    return {name: value for name, value in row.items() if value}


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _opened(pem: bytes, passphrase: str) -> PrivateKeyTypes | None:
    """The key, None where the passphrase is wrong."""
    encrypted = b"ENCRYPTED" in pem
    try:
        return serialization.load_pem_private_key(pem, passphrase.encode() if encrypted else None)
    except (ValueError, TypeError):
        return None


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _context(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The standard library takes certificates from files only.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context
