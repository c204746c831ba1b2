"""`python -m cocoon_worker.main`: the composition root of a worker process.

Owns the choice of chain adapter, engine and log format, and the process's signals. Everything else is
`cocoon_worker.service`. SIGTERM and SIGINT finish what the grace allows; a second one ends at once.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.chain.liteserver import LiteserverChain
from cocoon_sdk.chain.liteserver_blocks import Trust
from cocoon_sdk.chain.liteserver_config import LiteserverConfig
from cocoon_sdk.chain.toncenter import ToncenterChain
from cocoon_sdk.clock import Clock
from cocoon_sdk.errors import CocoonError, ConfigError
from cocoon_sdk.logs import log_to_stderr
from cocoon_sdk.protocol.terms import SamplingClass
from cocoon_worker.config import WorkerConfig, load_config
from cocoon_worker.engine.base import Engine, EngineIdentity, EngineLimits
from cocoon_worker.engine.echo import EchoEngine
from cocoon_worker.engine.openai import OpenAIEngine
from cocoon_worker.engine.vllm import VllmEngine, VllmSettings
from cocoon_worker.service import WorkerService

EXIT_FAILED: Final = 1


def make_chain(config: WorkerConfig) -> Chain:
    """Return the chain adapter that the settings name. Raises `ConfigError`."""
    if config.chain.network is not None:
        return LiteserverChain(
            LiteserverConfig.load(config.chain.network),
            trust=Trust(config.chain.trust),
            anchor=config.data_dir / "proven-key-block.json",
        )
    key = config.chain.api_key
    return ToncenterChain(config.chain.url, api_key=None if key is None else key.get_secret_value())


def make_engine(config: WorkerConfig) -> Engine:
    """Return the engine that the settings name, not started. Raises `ConfigError`."""
    engine, offers = config.engine, config.offers
    output = max(offer.max_output_tokens for offer in offers)
    limits = EngineLimits(
        max_prompt_tokens=max(offer.max_context for offer in offers),
        max_output_tokens=output,
        default_output_tokens=min(512, output),
    )
    # Of several promises the engine has to keep the strongest.
    sampling = max((offer.sampling for offer in offers), key=list(SamplingClass).index)
    names = sorted({offer.engine_model or offer.model for offer in offers})
    if engine.kind == "echo":
        return EchoEngine(limits=limits)
    if engine.kind == "openai":
        key = None if engine.api_key is None else engine.api_key.get_secret_value()
        identity = EngineIdentity(platform=engine.platform or "", dtype=engine.dtype or "")
        return OpenAIEngine(
            engine.url or "", api_key=key, models=names, limits=limits, sampling=sampling, identity=identity
        )
    if len(names) != 1:
        raise ConfigError(
            "one vLLM serves one model", hint="Run one worker per model, or use engine.kind = openai"
        )
    settings = VllmSettings(
        model=str(engine.model_path),
        served_name=names[0],
        log_path=config.data_dir / "vllm.log",
        max_model_len=max(offer.max_context for offer in offers),
        dtype=engine.dtype,
        extra_args=engine.arguments,
        sampling=sampling,
    )
    return VllmEngine(settings, limits=limits)


async def run(
    config: WorkerConfig,
    *,
    chain: Chain | None = None,
    engine: Engine | None = None,
    clock: Clock | None = None,
    handle_signals: bool = True,
) -> None:
    """Run one worker until a signal, or until it cannot go on. Raises `CocoonError`.

    What is not given is made from the settings, and closed at the end.
    """
    if chain is None:
        made = make_chain(config)
        try:
            await run(config, chain=made, engine=engine, clock=clock, handle_signals=handle_signals)
        finally:
            await made.close()
        return
    async with WorkerService(config, chain, engine or make_engine(config), clock) as service:
        working = asyncio.ensure_future(service.run())
        if handle_signals:
            _on_signals(service, working)
        try:
            await working
        except asyncio.CancelledError:
            if not working.cancelled():
                raise


def _on_signals(service: WorkerService, working: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked:
            working.cancel()  # the journal has everything: the next start goes on from it
        asked = True
        service.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed: it takes a third off the time that a streamed token costs."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worker that a settings file describes; return the exit code."""
    parser = argparse.ArgumentParser(prog="cocoon-worker", description="Serve Cocoon jobs with an engine.")
    parser.add_argument("config", nargs="?", type=Path, help="TOML file (default: worker.toml)")
    try:
        config = load_config(parser.parse_args(arguments).config)
        log_to_stderr(as_json=config.log_json, level=config.log_level)
        run_loop(run(config))
    except CocoonError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
