"""The vLLM logits processor whose choices anyone can repeat: parameters and seed come with the request.

Owns the way between vLLM's batch and one row's choice. Loaded by vLLM, in its own processes, with
`--logits-processors cocoon_worker.engine.sampler:CocoonSampler`; `Sampling.to_engine` writes the requests it
serves, and requests without its arguments pass untouched. Must not know where a seed comes from.

vLLM 0.32, V1 model runner. What it relies on, checked by the tests marked `vllm` (but for scheduling ahead,
which vLLM does not do on a CPU):

* Processors get the raw logits, after structured outputs, token bans, `logit_bias` and `min_tokens` have put
  minus infinity where nothing may go, and those tokens are never chosen. vLLM's own penalties come later;
  the request leaves them off, and they are applied here.
* What is left of a row is one token, so vLLM's argmax (temperature 0) takes it; so does its sampling, which
  a request for several choices has to use. vLLM numbers their seeds from the request's 0 upwards. (On a
  CPU, vLLM 0.32 dies of any request with a seed whose prompt it takes in pieces: ask for one choice there.)
* The list of output tokens is the request's own and grows by one per step, also when vLLM schedules ahead:
  before processors run, it puts the tokens in the place of what it had reserved. After preemption a request
  is added again with all its tokens, so its next position is the same as without.
* Log-probabilities are taken of the raw logits, before any processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from vllm.model_executor.layers.utils import apply_penalties
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from cocoon_sdk.errors import MalformedError
from cocoon_sdk.verify.noise import MAX_CHOICES, choice_seed, row_key
from cocoon_sdk.verify.sampling import MILLION, Sampling
from cocoon_worker.engine import choosing, choosing_dense

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


@dataclass(frozen=True, slots=True)
class _Request:
    """One request in the batch. `output` is vLLM's own list: it grows under our eyes."""

    sampling: Sampling
    seed: bytes
    prompt: Sequence[int]
    output: Sequence[int]


class CocoonSampler(LogitsProcessor):  # type: ignore[misc]
    """Chooses the tokens of requests that carry `Sampling.to_engine`'s arguments."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse a request (400) whose arguments are not exactly ours, or which vLLM would sample as well."""
        try:
            found = Sampling.of_engine(sampling_params.extra_args)
        except MalformedError as error:
            raise ValueError(str(error)) from None
        if found is None:
            return
        theirs = {
            **{"top_p": 1, "top_k": 0, "min_p": 0},
            **{"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1},
        }
        for name, neutral in theirs.items():
            if getattr(sampling_params, name) != neutral:
                raise ValueError(f"{name} must be {neutral} beside arguments of our sampler")
        if sampling_params.temperature > 0 and sampling_params.seed != 0:
            raise ValueError("several choices of our sampler need seed 0, one choice needs temperature 0")
        if sampling_params.n > MAX_CHOICES:
            raise ValueError(f"our sampler makes at most {MAX_CHOICES} choices")

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device, self._pin = torch.device(device), is_pin_memory
        self._requests: dict[int, _Request] = {}
        self._on_cpu = self._device.type == "cpu"
        self._noise = None if self._on_cpu else choosing_dense.noise_table(self._device)

    def is_argmax_invariant(self) -> bool:
        """Say that this processor decides the argmax, so that vLLM never skips it."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow what came into, left and moved within the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._requests.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            self._requests.pop(index, None)
            if (found := Sampling.of_engine(params.extra_args)) is not None:
                sampling, seed = found
                choice = (params.seed or 0) if params.temperature > 0 else 0
                self._requests[index] = _Request(sampling, choice_seed(seed, choice), prompt or (), output)
        for source, target, direction in batch_update.moved:
            moving, standing = self._requests.pop(source, None), self._requests.pop(target, None)
            if moving is not None:
                self._requests[target] = moving
            if standing is not None and direction is MoveDirectionality.SWAP:
                self._requests[source] = standing

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Leave of each of our rows the chosen token only (logit 0, all others minus infinity)."""
        if not self._requests:
            return logits
        return self._apply_on_cpu(logits) if self._on_cpu else self._apply_dense(logits)

    def _apply_on_cpu(self, logits: torch.Tensor) -> torch.Tensor:
        rows = logits.numpy()
        for index, request in self._requests.items():
            token = choosing.choose(
                rows[index],
                *(request.sampling, request.seed, len(request.output)),
                prompt=request.prompt,
                output=request.output,
            )
            if token is not None:
                rows[index] = -torch.inf
                rows[index, token] = 0.0
        return logits

    def _apply_dense(self, logits: torch.Tensor) -> torch.Tensor:
        requests = list(self._requests.values())
        indices = self._send([*self._requests], torch.int64)
        scaled = self._cut(self._penalised(logits[indices], requests), requests)
        keys = [row_key(each.seed, len(each.output)) for each in requests]
        words = self._send([[choosing_dense.signed(word) for word in key] for key in keys], torch.int32)
        assert self._noise is not None
        chosen = choosing_dense.choose(scaled, self._noise, words)
        logits[indices] = torch.full_like(scaled, -torch.inf).scatter_(1, chosen.unsqueeze(1), 0.0)
        return logits

    def _penalised(self, rows: torch.Tensor, requests: Sequence[_Request]) -> torch.Tensor:
        penalties = [
            (
                each.sampling.presence_penalty,
                each.sampling.frequency_penalty,
                each.sampling.repetition_penalty,
            )
            for each in requests
        ]
        if all(penalty == (0, 0, MILLION) for penalty in penalties):
            return rows
        presence, frequency, repetition = self._send(penalties, torch.float32).div_(MILLION).unbind(1)
        nothing: Sequence[int] = ()
        prompts = [
            each.prompt if each.sampling.repetition_penalty != MILLION else nothing for each in requests
        ]
        outputs = [each.output for each in requests]
        before, after = (self._send(_even(lists, rows.shape[1]), torch.int64) for lists in (prompts, outputs))
        return apply_penalties(rows, before, after, presence, frequency, repetition)

    def _cut(self, rows: torch.Tensor, requests: Sequence[_Request]) -> torch.Tensor:
        """Return logits / temperature, with what min-p, top-k and top-p cut at minus infinity."""
        samplings = [each.sampling for each in requests]
        scale = self._send([each.temperature / MILLION for each in samplings], torch.float32)
        scaled = rows / scale.unsqueeze(1)
        if any(each.min_p for each in samplings):
            depth = self._send(
                [math.log(max(each.min_p, 1e-30) / MILLION) for each in samplings], torch.float32
            )
            floor = scaled.amax(dim=1) + depth
            scaled.masked_fill_(scaled < floor.unsqueeze(1), -torch.inf)
        size = rows.shape[1]
        top_k = top_p = None
        if any(each.top_k for each in samplings):
            top_k = self._send([min(each.top_k or size, size) for each in samplings], torch.int32)
        if any(each.top_p < MILLION for each in samplings):
            top_p = self._send([each.top_p / MILLION for each in samplings], torch.float32)
        return apply_top_k_top_p(scaled, top_k, top_p)

    def _send(self, values: Sequence[object], dtype: torch.dtype) -> torch.Tensor:
        # From pinned memory the copy does not make the processor wait for the device.
        return torch.tensor(values, dtype=dtype, pin_memory=self._pin).to(self._device, non_blocking=True)


def _even(lists: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Fill lists up to one length with `size`, which no token has; what is no token becomes it too."""
    longest = max(map(len, lists))
    return [
        [*(token if 0 <= token < size else size for token in tokens), *([size] * (longest - len(tokens)))]
        for tokens in lists
    ]
