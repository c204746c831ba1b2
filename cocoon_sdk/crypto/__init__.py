"""Keys, mnemonics, key files, sealed boxes and encrypted channels."""

from cocoon_sdk.crypto.boxes import (
    MAX_BOX_BYTES,
    MAX_BOX_TEXT_BYTES,
    bucket_bytes,
    open_box,
    seal,
    sealed_bytes,
)
from cocoon_sdk.crypto.channel import (
    CHANNEL_VERSION,
    MAX_CHANNEL_MESSAGE_BYTES,
    Channel,
    ClientHandshake,
    HandshakeError,
    WorkerHandshake,
    WorkerName,
    client_proof,
)
from cocoon_sdk.crypto.keyfiles import read_box_key_file, read_key_file, read_signing_key_file, write_key_file
from cocoon_sdk.crypto.keys import (
    SMALL_ORDER_POINTS,
    BoxKey,
    BoxPublicKey,
    SecretKey,
    SigningKey,
    VerifyKey,
    WeakPublicKeyError,
)
from cocoon_sdk.crypto.mnemonics import new_mnemonic, parse_mnemonic, signing_key_from_mnemonic

__all__ = [
    "CHANNEL_VERSION",
    "MAX_BOX_BYTES",
    "MAX_BOX_TEXT_BYTES",
    "MAX_CHANNEL_MESSAGE_BYTES",
    "SMALL_ORDER_POINTS",
    "BoxKey",
    "BoxPublicKey",
    "Channel",
    "ClientHandshake",
    "HandshakeError",
    "SecretKey",
    "SigningKey",
    "VerifyKey",
    "WeakPublicKeyError",
    "WorkerHandshake",
    "WorkerName",
    "bucket_bytes",
    "client_proof",
    "new_mnemonic",
    "open_box",
    "parse_mnemonic",
    "read_box_key_file",
    "read_key_file",
    "read_signing_key_file",
    "seal",
    "sealed_bytes",
    "signing_key_from_mnemonic",
    "write_key_file",
]
