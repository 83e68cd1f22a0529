"""Who this installation is: a random id and a site key (Ed25519). Made once, never overwritten.

Two files in the state folder: ``installation-id``, 32 hexadecimal digits, and ``site.key``, PKCS #8 in PEM (RFC 8410).
Both are 0600 and belong to the folder's owner. Besides, the certificate that a router shows to the agent. The only
importer of cryptography.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from msgspec import Struct

from edgeagent.host import clock, installation
from edgeagent.host.installation import ID_FILE

KEY_FILE = "site.key"
FILE_MAX_BYTES = 4096


class IdentityMissing(FileNotFoundError):
    """It was not created yet."""


class IdentityDamaged(ValueError):
    """A file is there, but is not what it should be; it is left as it is."""

    def __init__(self, path: Path, found: str, expected: str) -> None:
        self.path, self.found, self.expected = path, found, expected
        super().__init__(f"{path}: found {found}, expected {expected}")


class Identity(Struct, frozen=True):
    """``installation``: 32 hexadecimal digits. ``public``: the site key's public half, 64 of them (RFC 8032)."""

    installation: str
    public: str


def create(folder: Path) -> Identity:
    """Make what is missing. A file cut off by a crash never has its final name, so what has it is whole.

    Raises OSError, and IdentityDamaged where a file is there that is none of ours: nothing is overwritten.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / ID_FILE).exists():
        _write_once(folder / ID_FILE, f"{clock.token(16)}\n".encode())
    if not (folder / KEY_FILE).exists():
        key = Ed25519PrivateKey.generate()
        _write_once(folder / KEY_FILE, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return load(folder)


def load(folder: Path) -> Identity:
    """What was created. Raises IdentityMissing, IdentityDamaged and OSError."""
    text = _read(folder / ID_FILE).decode(errors="replace").strip()
    try:
        number = installation.read(folder)
    except ValueError:
        raise IdentityDamaged(folder / ID_FILE, f"{len(text)} characters", "32 hexadecimal digits") from None
    public = site_key(folder).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Identity(number, public.hex())


def site_key(folder: Path) -> Ed25519PrivateKey:
    """The private key, to sign with. Raises IdentityMissing, IdentityDamaged and OSError."""
    path = folder / KEY_FILE
    raw = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise IdentityDamaged(path, f"mode {mode:04o}, which lets others read it", "mode 0600")
    expected = "an Ed25519 private key (PKCS #8 in PEM)"
    try:
        key = load_pem_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise IdentityDamaged(path, "no key that can be read", expected) from None  # the cause may quote the file
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityDamaged(path, "a key of another kind", expected)
    return key


class ServerCertificate(Struct, frozen=True):
    """What a router is given (PEM). The key is kept nowhere else."""

    certificate: bytes
    key: bytes


def server_certificate(address: str) -> ServerCertificate:
    """A certificate for a router, signed by itself: it is pinned, so an authority would be one more key to guard.

    RSA, and the key in the old form of PEM, because 6.49 takes both for certain. Made here and not by the router, whose
    signing takes a minute on a small board and goes on in the background. Fixed dates: nobody's clock matters, and 2038
    is not reached.
    """
    private = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgeagent router")])
    made = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2037, 12, 31, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    key = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return ServerCertificate(made.public_bytes(Encoding.PEM), key)


def certificate_fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate, hexadecimal, as a router shows it; empty where there is none."""
    try:
        return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()
    except ValueError:
        return ""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX_BYTES)
    except FileNotFoundError as error:
        raise IdentityMissing(error.errno, "it was not created yet", str(path)) from None


def _write_once(path: Path, content: bytes) -> None:
    """Whole and on the disk under its name, or not at all; another who was quicker wins (link(2) never overwrites)."""
    owner = path.parent.stat()
    draft = path.with_name(f".{path.name}.{clock.token(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(handle, owner.st_uid, owner.st_gid)
            file.write(content)
            file.flush()
            os.fsync(handle)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
