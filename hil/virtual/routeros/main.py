"""Runs a virtual router as a process: ``python -m hil router ...``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hil.virtual.routeros.boards import BOARDS
from hil.virtual.routeros.certificate import make_certificate, server_context
from hil.virtual.routeros.control import Control
from hil.virtual.routeros.events import EventLog
from hil.virtual.routeros.model import ModelPlane
from hil.virtual.routeros.plane import Plane, Trap
from hil.virtual.routeros.server import Router, RouterOptions
from hil.virtual.routeros.values import VERSIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``router``."""
    parser.add_argument("--version", choices=VERSIONS, default="7.22", help="RouterOS version to be")
    parser.add_argument("--profile", choices=sorted(BOARDS), default="generic", help="board to be")
    parser.add_argument("--plane", choices=("model", "kernel"), default="model", help="what gives the rows effect")
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS", help="address of the API ports")
    parser.add_argument("--port", type=int, default=8728, help="plain API port, 0 for any")
    parser.add_argument("--tls-port", type=int, default=8729, help="TLS API port, 0 for any")
    parser.add_argument("--ssh-port", type=int, help="SSH port, 0 for any; without it there is no SSH")
    parser.add_argument("--cert", type=Path, help="certificate of the TLS port (PEM); one is made where not given")
    parser.add_argument("--key", type=Path, help="key of the certificate (PEM)")
    parser.add_argument(
        "--no-cert", action="store_true", help="as out of the box: no certificate until one is imported and assigned"
    )
    parser.add_argument(
        "--device-mode", choices=("advanced", "home"), default="advanced", help="what the board allows (RouterOS 7)"
    )
    parser.add_argument("--free-bytes", type=int, help="space for files, bytes; as the board has it where not given")
    parser.add_argument(
        "--clock-offset-s",
        type=float,
        default=0.0,
        help="how far the router's clock is ahead of ours, seconds",
    )
    parser.add_argument("--user", default="admin", help="administrator to create")
    parser.add_argument("--password-file", type=Path, help="file that holds the administrator's password")
    parser.add_argument("--initial", type=Path, help="configuration to boot with (JSON: {menu: [rows]})")
    parser.add_argument("--control", type=Path, help="path of the control socket")
    parser.add_argument("--events", type=Path, help="file to append the event log to")
    parser.add_argument("--reboot-s", type=float, default=20.0, help="how long /system/reboot takes, seconds")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="hil router", description="A virtual RouterOS: API and SSH.")
    add_arguments(parser)
    options = parser.parse_args(argv)
    if (options.cert is None) != (options.key is None):
        parser.error("--cert and --key belong together; give both or neither")
    try:
        asyncio.run(serve(options))
    except (ValueError, OSError, Trap) as error:
        print(f"hil router: {error}", file=sys.stderr)
        return 1
    return 0


async def serve(options: argparse.Namespace) -> None:
    """Run one router until a signal ends it; announces itself with one JSON line on standard output."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    log = EventLog(options.events)
    with contextlib.ExitStack() as stack:
        stack.callback(log.close)
        certificate, key = options.cert, options.key
        if certificate is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hil-router-"))
            certificate, key = make_certificate(Path(folder), options.listen)
        router = Router(_router_options(options, certificate, key), make_plane(options.plane), log)
        control = Control(router)
        try:
            await router.start()
            if options.control is not None:
                await control.start(options.control)
            ready: dict[str, object] = {"ready": True, "port": router.ports["api"], "tls_port": router.ports["api-ssl"]}
            if router.ssh is not None:
                ready |= {"ssh_port": router.ports["ssh"], "ssh_host_key": router.ssh.host_key}
            print(json.dumps({**ready, "certificate": str(certificate)}), flush=True)
            await stopped.wait()
        finally:
            await control.stop()
            await router.stop()


def make_plane(name: str) -> Plane:
    """The plane of that name; the kernel plane is loaded only where it is wanted, as it needs Linux and root."""
    if name == "model":
        return ModelPlane()
    from hil.virtual.routeros.kernel import KernelPlane

    plane: Plane = KernelPlane()
    return plane


def _router_options(options: argparse.Namespace, certificate: Path, key: Path) -> RouterOptions:
    initial = json.loads(options.initial.read_text("utf-8")) if options.initial is not None else {}
    password = options.password_file.read_text("utf-8").strip() if options.password_file is not None else ""
    return RouterOptions(
        version=options.version,
        profile=options.profile,
        address=options.listen,
        port=options.port,
        tls_port=options.tls_port,
        tls=None if options.no_cert else server_context(certificate, key),
        ssh_port=options.ssh_port,
        device_mode=options.device_mode,
        free_bytes=options.free_bytes,
        clock_offset_s=options.clock_offset_s,
        initial=initial,
        user=options.user,
        password=password,
        reboot_s=options.reboot_s,
    )
