"""What `cocoon verify` needs to re-score, whatever is verified: options, and what is made of them.

Owns the options' words, the verifier, the reading of thresholds, and the exit codes of the levels. Must not
know where question and answer come from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

if TYPE_CHECKING:
    from cocoon_sdk.cli.session import Session
    from cocoon_sdk.verify.rescoring import Verifier
    from cocoon_sdk.verify.thresholds import Thresholds

EXIT_SUSPECT: Final = 3
EXIT_REFUND: Final = 4
EXIT_SLASH: Final = 5
EXIT_NOT_CHECKABLE: Final = 6
EXITS: Final = {"honest": 0, "suspect": EXIT_SUSPECT, "refund": EXIT_REFUND, "slash": EXIT_SLASH}
"""What a command leaves with, by level."""
EndpointUrl: TypeAlias = Annotated[
    str, typer.Option("--endpoint", metavar="URL", help="A vLLM that serves the model, up to /v1.")
]
KeyFile: TypeAlias = Annotated[
    Path | None, typer.Option("--api-key-file", metavar="FILE", help="Its key (mode 0600).")
]
ServedName: TypeAlias = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="What it calls the model.")
]
ModelFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--model-folder", metavar="DIR", help="The model's files: they say which tokens end an answer."
    ),
]
ThresholdsFile: TypeAlias = Annotated[
    Path | None, typer.Option("--thresholds", metavar="FILE", help="The model's calibrated limits.")
]
EndTokens: TypeAlias = Annotated[
    list[int] | None,
    typer.Option("--end-token", metavar="ID", help="A token that ends answers (several: repeat)."),
]
Top: TypeAlias = Annotated[
    int, typer.Option("--top", min=1, max=1000, help="Tokens per position to ask for.")
]


async def open_verifier(
    session: Session,
    endpoint: str,
    api_key_file: Path | None,
    name: str,
    *,
    top: int,
    end_tokens: list[int] | None,
    folder: Path | None,
) -> Verifier:
    """Return a verifier that is closed with the command. Raises `ConfigError` and `ModelFolderError`."""
    from cocoon_sdk.cli.files import read_private
    from cocoon_sdk.verify.model_files import open_model
    from cocoon_sdk.verify.rescoring import Verifier

    key = None if api_key_file is None else read_private(api_key_file).strip()
    ends = end_tokens or (None if folder is None else open_model(folder).end_tokens)
    verifier = Verifier(endpoint, key, name, top=top, end_tokens=ends)
    return await session.closing.enter_async_context(verifier)


def read_thresholds(path: Path, model_id: bytes) -> Thresholds:
    """Read a model's limits. Raises `ConfigError` for another model's, `MalformedError` for none."""
    from cocoon_sdk.errors import ConfigError
    from cocoon_sdk.verify.thresholds import MAX_THRESHOLDS_BYTES, Thresholds

    try:
        with path.open("rb") as file:
            data = file.read(MAX_THRESHOLDS_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the thresholds {path}", why=str(error.strerror)) from None
    found = Thresholds.from_bytes(data)
    if found.model_id != model_id:
        raise ConfigError(
            f"the thresholds {path} cannot be used", why=f"they are not those of model {model_id.hex()[:16]}"
        )
    return found
