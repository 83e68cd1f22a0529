"""Self-signed certificates for servers of the bench: the router's API, a mail server."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# Days. Longer than any bench lives; short enough that a copy left somewhere is soon worthless.
VALID_DAYS = 30


def make_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Write ``router.crt`` and ``router.key`` for ``address`` into ``folder``; their paths."""
    certificate, key = folder / "router.crt", folder / "router.key"
    write_certificate(certificate, key, "virtual-router", address)
    return certificate, key


def write_certificate(certificate: Path, key: Path, name: str, address: str) -> None:
    """Write a certificate for ``name`` and ``address``, signed with its own key, and that key (PEM both)."""
    # Elliptic: made in a millisecond, where an RSA key takes up to a second.
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS as a router with a certificate assigned to api-ssl offers it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
