"""A mail server that answers as told: what no real one does on request."""

from __future__ import annotations

import asyncio
import ssl

Answers = dict[str, str | None]  # verb -> answer; None: say nothing; "": hang up


class Smtp:
    """Answers each verb as told; "." is the answer to the message's end."""

    def __init__(self, tls: ssl.SSLContext, answers: Answers, starttls: bool) -> None:
        self.tls = tls
        self.starttls = starttls
        self.secure = not starttls
        self.answers = {
            "GREET": "220 mail",
            "AUTH": "235 ok",
            "MAIL": "250 ok",
            "RCPT": "250 ok",
            "DATA": "354 go",
            ".": "250 2.0.0 queued as 77",
            "QUIT": "221 bye",
            "STARTTLS": "220 go",
            **answers,
        }
        self.stored: list[bytes] = []
        self.heard: list[tuple[str, bool]] = []
        self.peers: list[str] = []

    def reply(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        answer = self.answers[verb]
        if answer == "":
            writer.transport.abort()
            return False
        if answer is not None:
            writer.write(answer.encode() + b"\r\n")
        return True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername")[0])
        try:
            if self.reply(writer, "GREET"):
                await self.converse(reader, writer)
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            verb = line.split()[0].decode().upper()
            self.heard.append((line.decode().strip(), self.secure))
            if verb == "EHLO":
                offers = ["mail", "AUTH PLAIN", "SIZE 1000000"] + (["STARTTLS"] if not self.secure else [])
                if self.answers.get("OFFERS") == "none":
                    offers = ["mail"]
                lines = [f"250{'-' if n < len(offers) - 1 else ' '}{offer}\r\n" for n, offer in enumerate(offers)]
                writer.write("".join(lines).encode())
                continue
            if not self.reply(writer, verb):
                return
            if verb == "STARTTLS":
                await writer.start_tls(self.tls)
                self.secure = True
            if verb == "DATA" and self.answers["DATA"] == "354 go":
                self.stored.append(await reader.readuntil(b"\r\n.\r\n"))
                if not self.reply(writer, "."):
                    return
            if verb == "QUIT":
                return
