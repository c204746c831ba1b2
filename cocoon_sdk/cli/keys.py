"""`cocoon key`: making key files and mnemonics, and showing their public halves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cocoon_sdk.cli.options import Json
from cocoon_sdk.cli.session import Session, run

app = typer.Typer(no_args_is_help=True, help="Make and show key files.")


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the key file goes (mode 0600).")],
    box: Annotated[
        bool, typer.Option("--box", help="An X25519 key for sealed boxes, not for signing.")
    ] = False,
    mnemonic: Annotated[bool, typer.Option("--mnemonic", help="24 words of a new wallet, as text.")] = False,
    as_json: Json = False,
) -> None:
    """Make a fresh key: ed25519 for hot keys and operators, unless told otherwise. Never overwrites."""
    run(lambda session: _new(session, path, box=box, mnemonic=mnemonic), as_json=as_json)


async def _new(session: Session, path: Path, *, box: bool, mnemonic: bool) -> None:
    from cocoon_sdk.crypto import BoxKey, SigningKey, write_key_file
    from cocoon_sdk.errors import ConfigError

    if box and mnemonic:
        raise ConfigError("--box and --mnemonic exclude each other")
    if mnemonic:
        await _new_wallet(session, path)
        return
    key = BoxKey.generate() if box else SigningKey.generate()
    write_key_file(path, key)
    _show(session, path, "x25519" if box else "ed25519", _public(key))


async def _new_wallet(session: Session, path: Path) -> None:
    from cocoon_sdk.cli.files import write_private
    from cocoon_sdk.client.wallets import KeyWallet
    from cocoon_sdk.crypto import new_mnemonic

    words = new_mnemonic()
    write_private(path, " ".join(words) + "\n")
    wallet = KeyWallet.from_mnemonic(session.chain, words, version=session.settings.wallet_version)
    address = wallet.address.to_str(is_bounceable=False)
    session.out.result(
        {"path": str(path), "type": "mnemonic", "wallet": address, "version": wallet.version.value},
        f"{path}: 24 words of the {wallet.version.value} wallet {address}\n"
        "Whoever reads them owns the wallet.",
    )


@app.command()
def show(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")], as_json: Json = False
) -> None:
    """Show a key file's type and public half, never the secret."""
    run(lambda session: _shown(session, path), as_json=as_json)


async def _shown(session: Session, path: Path) -> None:
    from cocoon_sdk.crypto import SigningKey, read_key_file

    key = read_key_file(path)
    _show(session, path, "ed25519" if isinstance(key, SigningKey) else "x25519", _public(key))


def _public(key: object) -> str:
    from cocoon_sdk.crypto import BoxKey, SigningKey

    if isinstance(key, SigningKey):
        return key.verify_key.hex
    assert isinstance(key, BoxKey)
    return key.public_key.hex


def _show(session: Session, path: Path, kind: str, public: str) -> None:
    document = {"path": str(path), "type": kind, "public": public}
    session.out.result(document, f"{path}: {kind} key, public half {public}")
