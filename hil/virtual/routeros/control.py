"""The bench's way in: a Unix socket, one JSON object per line and one JSON line in answer.

``{"op": "hello"}``, ``{"op": "rows", "menu": "/ip/route"}``, ``{"op": "sentence", "words": ["/ip/route/print"]}`` (as
the local administrator), ``{"op": "misbehave", "kind": "slow", "delay_s": 2, ...}`` (see ``misbehave.Rule``),
``{"op": "clear"}`` (optionally ``"number"``), ``{"op": "reboot", "down_s": 5}``, ``{"op": "power", "on": false}``,
``{"op": "plane", "do": "link", ...}`` (see the plane's ``control``). The answer is
``{"ok": true, ...}`` or ``{"ok": false, "error": "..."}``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.virtual.routeros.plane import Trap
from hil.virtual.routeros.server import Router


class Control:
    """Serves the control socket of one router."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._path: Path | None = None

    async def start(self, path: Path) -> None:
        """Listen at ``path``; a socket left behind by a killed router is replaced."""
        # asyncio replaces a stale socket by itself, and from Python 3.13 on removes its own.
        self._path = path
        self._server = await asyncio.start_unix_server(self._serve, str(path))

    async def stop(self) -> None:
        """Stop listening and drop the clients."""
        if self._server is not None:
            self._server.close()
        for writer in self._clients.values():
            writer.transport.abort()
        if self._clients:
            await asyncio.wait(set(self._clients))
        if self._path is not None:
            await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def perform(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One operation; its answer."""
        router, op = self._router, request.get("op")
        if op in ("hello", "ping"):
            return router.summary
        if op in ("rows", "sentence") and router.rebooting:
            raise ValueError("the router is rebooting; ask again when hello says that it is back")
        if op == "rows":
            menu = router.store.menus.get(request["menu"])
            if menu is None:
                raise ValueError(f"RouterOS {router.store.version} has no menu {request['menu']} here")
            return {"rows": await router.engine.view(menu)}
        if op == "sentence":
            return {"rows": await router.store.sentence(list(request["words"]))}
        if op == "misbehave":
            rule = router.misbehaviour.add({key: value for key, value in request.items() if key != "op"})
            router.log.write("misbehave", **{key: value for key, value in request.items() if key != "op"})
            return {"number": rule.number}
        if op == "clear":
            router.misbehaviour.clear(request.get("number"))
            router.log.write("misbehave_cleared", number=request.get("number"))
            return {}
        if op == "reboot":
            router.reboot(float(request.get("down_s", router.options.reboot_s)))
            return {}
        if op == "power":
            router.power(on=bool(request["on"]))
            return {}
        if op == "plane":
            return self._plane(request)
        known = "hello, rows, sentence, misbehave, clear, reboot, power, plane"
        raise ValueError(f"unknown operation {op!r}; known are {known}")

    def _plane(self, request: Mapping[str, Any]) -> dict[str, Any]:
        control = getattr(self._router.plane, "control", None)
        if control is None:
            raise ValueError(f"{type(self._router.plane).__name__} has no control operations")
        answer: dict[str, Any] = control(request["do"], request)
        return answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = writer
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except OSError:
            pass  # the client left
        finally:
            del self._clients[task]
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **await self.perform(json.loads(line))}
        except Trap as trap:
            return {"ok": False, "error": trap.message, "category": trap.category}
        except (ValueError, TypeError, AttributeError) as error:
            return {"ok": False, "error": str(error)}
        except KeyError as error:
            return {"ok": False, "error": f"the request lacks {error}"}
