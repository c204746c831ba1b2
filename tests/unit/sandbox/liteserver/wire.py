"""A lite client's end of the wire, written from the protocol's description and not from the server."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from typing import Any

from Cryptodome.Cipher import AES
from nacl.bindings import (
    crypto_scalarmult,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_keypair,
)

from cocoon_sdk.sandbox.liteserver.tl import lite_schema

PONG = bytes.fromhex("03fb69dc")
PING = bytes.fromhex("9a2b084d")


def ctr(key: bytes, iv: bytes) -> Any:
    return AES.new(key, AES.MODE_CTR, initial_value=iv, nonce=b"")


def handshake(server_public: bytes, secret: bytes) -> bytes:
    public, private = crypto_sign_keypair()
    shared = crypto_scalarmult(
        crypto_sign_ed25519_sk_to_curve25519(private), crypto_sign_ed25519_pk_to_curve25519(server_public)
    )
    checksum = hashlib.sha256(secret).digest()
    sealed = ctr(shared[:16] + checksum[16:], checksum[:4] + shared[20:]).encrypt(secret)
    short_id = hashlib.sha256(bytes.fromhex("c6b41348") + server_public).digest()
    return short_id + public + checksum + bytes(sealed)


def frame(payload: bytes) -> bytes:
    body = os.urandom(32) + payload
    return (len(body) + 32).to_bytes(4, "little") + body + hashlib.sha256(body).digest()


def query(data: bytes, query_id: bytes) -> bytes:
    schema = lite_schema()
    inner = schema.encode("liteServer.query", data=data)
    return schema.encode("adnl.message.query", query_id=query_id, query=inner)


class RawClient:
    """A connection whose every byte a test can choose."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
        self.reader, self.writer = reader, writer
        self._incoming = ctr(secret[:32], secret[64:80])
        self._outgoing = ctr(secret[32:64], secret[80:96])

    @classmethod
    async def connect(cls, port: int, server_public: bytes) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        secret = os.urandom(160)
        writer.write(handshake(server_public, secret))
        client = cls(reader, writer, secret)
        assert await client.receive() == b""
        return client

    def write(self, plain: bytes) -> None:
        self.writer.write(self._outgoing.encrypt(plain))

    def send(self, payload: bytes) -> None:
        self.write(frame(payload))

    async def receive(self) -> bytes:
        length = int.from_bytes(self._incoming.decrypt(await self.reader.readexactly(4)), "little")
        body = self._incoming.decrypt(await self.reader.readexactly(length))
        assert hashlib.sha256(body[:-32]).digest() == body[-32:]
        return bytes(body[32:-32])

    def ask(self, data: bytes) -> bytes:
        query_id = os.urandom(32)
        self.send(query(data, query_id))
        return query_id

    async def answer(self) -> tuple[bytes, bytes]:
        found = lite_schema().decode_whole(await self.receive(), "adnl.message.answer")
        return found["query_id"], found["answer"]

    async def call(self, name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
        """Ask one query; return constructor and fields of the answer."""
        schema = lite_schema()
        asked = self.ask(schema.encode(f"liteServer.{name}", **fields))
        query_id, answer = await self.answer()
        assert query_id == asked
        codec = schema.by_id[answer[:4]]
        return codec.name.removeprefix("liteServer."), schema.decode_whole(answer, codec.name)

    async def is_cut(self) -> bool:
        """Wait until the server ends the connection; whatever comes before is thrown away."""
        try:
            while await self.reader.read(1 << 16):
                pass
        except ConnectionError:
            pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
