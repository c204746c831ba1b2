"""What our sampler relies on in vLLM: positions under pressure, several choices, and masks of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cocoon_sdk.verify.noise import choice_seed
from cocoon_sdk.verify.replay import replay
from cocoon_sdk.verify.sampling import Sampling
from tests.e2e.sampler_process import CROWD, LENGTH, TOP, WARM, seed

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.xdist_group("vllm")]
_LIMIT_S = 800
_TOLERANCE = 0.0005
"""Nat: our sampler computes in double precision from logits in single precision."""


@pytest.fixture(scope="module")
def found(packaged_model: Path) -> dict[str, Any]:
    """What `sampler_process` found, in a process of its own: vLLM changes settings of its whole process."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    command = [sys.executable, "-m", "tests.e2e.sampler_process", str(packaged_model)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def regrets(answer: dict[str, Any], seed: bytes, body: dict[str, Any]) -> list[float]:
    sampling = Sampling.of_request(body)
    seen = []
    for place, (tokens, logprobs) in enumerate(answer["tables"]):
        again = replay(
            *(sampling, seed, place, np.array(tokens), np.array(logprobs)),
            prompt=np.array(answer["prompt"]),
            output=np.array(answer["tokens"][:place], dtype=np.int64),
            unlisted=sorted(logprobs)[-TOP],
        )
        seen.append(again.regret(answer["tokens"][place]))
    return seen


def test_choices_replay_when_requests_are_preempted_and_prompts_cut_in_pieces(found: dict[str, Any]) -> None:
    assert found["preemptions"] > 0
    assert len(found["crowd"]) == CROWD
    for number, (answer,) in enumerate(found["crowd"]):
        assert len(answer["tokens"]) == LENGTH
        assert max(regrets(answer, seed(number), WARM)) <= _TOLERANCE
        assert sum(regret > _TOLERANCE for regret in regrets(answer, seed(number + 100), WARM)) > LENGTH / 4


def test_each_of_several_choices_replays_with_its_own_seed(found: dict[str, Any]) -> None:
    for index, answer in enumerate(found["choices"]):
        assert max(regrets(answer, choice_seed(seed(50), index), WARM)) <= _TOLERANCE
    assert len({answer["text"] for answer in found["choices"]}) == 3


def test_requests_of_others_are_untouched_beside_ours(found: dict[str, Any]) -> None:
    assert found["greedy among ours"] == found["greedy alone"]


def test_tokens_that_vllm_bans_are_never_chosen(found: dict[str, Any]) -> None:
    assert found["structured"]["text"] in ("crimson", "turquoise")
    assert set(found["biased"]["tokens"]) == {330}
    assert set(found["allowed"]["tokens"]) == {330, 331}
    assert len(found["lasting"]["tokens"]) == 12
    assert min(found["lasting"]["tokens"][:-1]) >= 40000
