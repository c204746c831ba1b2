"""Before the engine starts: the files that it will load are those of the models on offer.

Owns the decision to start or not. Must not know how files are hashed or chosen (`cocoon_sdk.verify`), nor
start engines. A model id is the hash of a manifest, so every offer names its files. Only the folder of a
vLLM that the worker starts itself can be looked at; what stands behind a URL is its operator's word, and
the log says so at every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from cocoon_sdk.errors import CocoonError, ConfigError
from cocoon_sdk.protocol import SamplingClass
from cocoon_sdk.verify.file_hashes import FileHasher, FileProgress, in_thread
from cocoon_sdk.verify.manifest import ModelDiffersError, ModelManifest
from cocoon_sdk.verify.model_files import check_model, hash_model, manifest_of, open_model, read_manifest
from cocoon_worker.config import OfferConfig, WorkerConfig

MEMORY_FILE: Final = "model-hashes.json"
"""In the worker's data folder: the hashes of files that did not change since."""

ALTERING: Final = (
    "--chat-template",
    "--config",
    "--config-format",
    "--enable-lora",
    "--hf-config-path",
    "--hf-overrides",
    "--kv-cache-dtype",
    "--load-format",
    "--lora-modules",
    "--model",
    "--model-loader-extra-config",
    "--quantization",
    "--speculative-config",
    "--tokenizer",
    "--tokenizer-mode",
)
"""vLLM's options that make other answers out of the same files, or load others."""


class UnknownFilesError(CocoonError):
    """The files of a model cannot be compared with what is offered; a checkable offer needs that."""


async def guard_models(
    config: WorkerConfig, names: Mapping[bytes, str], log: structlog.typing.FilteringBoundLogger
) -> None:
    """Hash what the engine will load, and compare it with the offers; what stayed is not read again.

    `names` maps model ids to the registry's names: a manifest can be made again from a folder and a name.
    Raises `ModelDiffersError` listing what differs, `ConfigError` for a manifest that is not the offered
    model's, for engine arguments that change the model and for a chat template that reads the clock,
    `UnknownFilesError` for an offer that promises
    checkable answers and names a model that the folder is not, and what reading the folder raises.
    """
    manifests = {offer.model: _manifest(offer) for offer in config.offers}
    folder = config.engine.model_path
    if config.engine.kind != "vllm" or folder is None:
        for offer in config.offers if config.engine.kind == "openai" else ():
            log.warning("model files are not seen", model=offer.model, why="they are behind a URL")
        return
    hasher = FileHasher(config.data_dir / MEMORY_FILE, fresh=config.rehash)
    for offer in config.offers:
        manifest = manifests[offer.model]
        checkable = offer.sampling is not SamplingClass.UNVERIFIED
        if manifest is not None or checkable:
            _refuse_altering(config.engine.arguments, offer)
        if checkable:
            await _refuse_clock(folder, offer)
        if manifest is not None:
            await _compare(folder, manifest, hasher)
        else:
            name = names.get(bytes.fromhex(offer.model_id), offer.model)
            try:
                await _recognise(folder, name, offer, hasher)
            except CocoonError as error:
                if checkable:
                    raise
                log.warning("model files are not what the model id names", model=offer.model, why=str(error))
                continue
        log.info("model files are what is offered", model=offer.model, model_id=offer.model_id)
    hasher.save()


def _manifest(offer: OfferConfig) -> ModelManifest | None:
    if offer.manifest is None:
        return None
    manifest = read_manifest(offer.manifest)
    if manifest.digest.hex() != offer.model_id:
        raise ConfigError(
            f"cannot offer {offer.model}",
            why=f"the hash of {offer.manifest} is {manifest.digest.hex()}, the offer's model_id is another",
            hint="Name the manifest that the registry lists, or correct model_id",
        )
    return manifest


async def _compare(folder: Path, manifest: ModelManifest, hasher: FileHasher) -> None:
    differences = await in_thread(lambda tell: check_model(folder, manifest, hasher, tell))
    if differences:
        hint = f"Download {manifest.name} anew, or offer what {folder} holds (`cocoon model manifest`)"
        raise ModelDiffersError(f"{folder} is not the model on offer", differences, hint=hint)


async def _recognise(folder: Path, name: str, offer: OfferConfig, hasher: FileHasher) -> None:
    """Make the folder's manifest under the registry's name: its hash has to be the model id."""

    def describe(tell: FileProgress) -> ModelManifest:
        found = open_model(folder)
        return manifest_of(found, hash_model(found, hasher, tell), name=name)

    found = await in_thread(describe)
    if found.digest.hex() != offer.model_id:
        raise UnknownFilesError(
            f"cannot offer {offer.model} as {offer.sampling}",
            why=f"the manifest of {folder} has the hash {found.digest.hex()}, not the offer's model_id",
            hint="Set the offer's manifest to see what differs, or offer it as unverified",
        )


async def _refuse_clock(folder: Path, offer: OfferConfig) -> None:
    """Refuse to promise checkable answers to prompts that nobody can make again on another day.

    An arbiter would score the answer after another prompt, and find a worker guilty that is honest.
    """
    if await asyncio.to_thread(lambda: open_model(folder).reads_clock):
        raise ConfigError(
            f"cannot offer {offer.model} as {offer.sampling}",
            why="its chat template puts the present date into prompts (strftime_now)",
            hint="Take the date out of the template, which makes it a model of its own, or offer it as "
            "unverified",
        )


def _refuse_altering(arguments: Sequence[str], offer: OfferConfig) -> None:
    """Refuse engine arguments that change the model: its files would be right and its answers not."""
    for argument in arguments:
        name = argument.partition("=")[0].partition(".")[0].replace("_", "-")
        if name == "-q" or (len(name) > 4 and any(option.startswith(name) for option in ALTERING)):
            raise ConfigError(
                f"cannot offer {offer.model} by its manifest",
                why=f"the engine argument {name} changes what the model's files compute",
                hint="Remove it, or offer another model (its own manifest, or unverified without one)",
            )
