"""A self-signed certificate for the API's TLS port, made by the ``openssl`` program."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

# Days. Longer than any bench lives; short enough that a copy left somewhere is soon worthless.
VALID_DAYS = 30


def make_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Write ``router.crt`` and ``router.key`` for ``address`` into ``folder``; their paths."""
    certificate, key = folder / "router.crt", folder / "router.key"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=virtual-router"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", str(VALID_DAYS)]
    command += ["-addext", f"subjectAltName=IP:{address},DNS:virtual-router"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS as a router with a certificate assigned to api-ssl offers it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
