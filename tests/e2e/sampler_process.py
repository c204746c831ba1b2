"""vLLM with our sampler in this very process, under pressure: run by `test_vllm_sampler`, prints JSON.

Too little memory for all requests at once (so that some are preempted and begin again), and too little room
for a prompt in one step. Where a request is replayable, its answer comes with the best raw log-probabilities
of each position, as the engine saw them when it chose.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from cocoon_sdk.verify.sampling import Sampling

TOP: Final = 20
LENGTH: Final = 150
CROWD: Final = 8
WARM: Final = {"temperature": 1.0, "top_p": 0.95, "frequency_penalty": 0.4}
TEXT: Final = "The history of the city begins with a river. "


def seed(number: int) -> bytes:
    """The seed of the request with this number."""
    return number.to_bytes(16, "big")


def params(number: int, body: dict[str, Any], *, n: int = 1, **more: Any) -> Any:
    from vllm import SamplingParams

    fields = Sampling.of_request(body).to_engine(seed(number), choices=n)
    arguments = fields.pop("vllm_xargs")
    return SamplingParams(**fields, extra_args=arguments, n=n, **{"logprobs": TOP, **more})


def told(prompt: Any, choice: Any) -> dict[str, Any]:
    tables = [{token: entry.logprob for token, entry in table.items()} for table in choice.logprobs or ()]
    return {
        "prompt": list(prompt),
        "tokens": list(choice.token_ids),
        "text": choice.text,
        "tables": [[list(table), list(table.values())] for table in tables],
    }


def main(model: str) -> None:
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    engine = LLM(
        model,
        enforce_eager=True,
        dtype="float32",
        block_size=32,
        num_gpu_blocks_override=28,
        max_model_len=512,
        max_num_seqs=CROWD,
        max_num_batched_tokens=64,
        enable_prefix_caching=False,
        generation_config="vllm",
        disable_log_stats=False,
        logits_processors=["cocoon_worker.engine.sampler:CocoonSampler"],
    )

    def run(prompts: list[str], each: list[Any]) -> list[list[dict[str, Any]]]:
        answers = engine.generate(prompts, each, use_tqdm=False)
        return [[told(answer.prompt_token_ids, choice) for choice in answer.outputs] for answer in answers]

    found: dict[str, Any] = {}
    long = {"max_tokens": LENGTH, "ignore_eos": True}
    prompts = [TEXT * (1 + number) for number in range(CROWD)]
    found["crowd"] = run(prompts, [params(number, WARM, **long) for number in range(CROWD)])
    found["preemptions"] = sum(
        metric.value for metric in engine.get_metrics() if metric.name == "vllm:num_preemptions"
    )
    found["choices"] = run([TEXT], [params(50, WARM, n=3, max_tokens=24, ignore_eos=True)])[0]
    greedy = SamplingParams(temperature=0, max_tokens=24, logprobs=TOP)
    found["greedy alone"] = run([TEXT], [greedy])[0][0]["tokens"]
    mixed = run([TEXT, TEXT], [greedy, params(51, WARM, max_tokens=24, ignore_eos=True)])
    found["greedy among ours"] = mixed[0][0]["tokens"]

    hot = {"temperature": 2.0}
    colour = StructuredOutputsParams(choice=["crimson", "turquoise"])
    held = run(
        [TEXT] * 4,
        [
            params(60, hot, structured_outputs=colour, max_tokens=16),
            params(61, hot, logit_bias={330: 100.0}, max_tokens=6),
            params(62, hot, allowed_token_ids=[330, 331], max_tokens=6, ignore_eos=True),
            params(63, hot, min_tokens=12, max_tokens=12, stop_token_ids=list(range(0, 40000))),
        ],
    )
    found["structured"], found["biased"], found["allowed"], found["lasting"] = (each[0] for each in held)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
