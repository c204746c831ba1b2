"""Our logits processor within vLLM's batch: whose rows it touches, and that devices choose alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cocoon_sdk.verify.noise import choice_seed, gumbel, row_key
from cocoon_sdk.verify.sampling import MILLION, Sampling

torch = pytest.importorskip("torch", reason="vLLM is not installed: run `make vllm`")
pytest.importorskip("vllm", reason="vLLM is not installed: run `make vllm`")

from vllm import SamplingParams  # noqa: E402
from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality  # noqa: E402

from cocoon_worker.engine import choosing_dense  # noqa: E402
from cocoon_worker.engine.choosing import choose  # noqa: E402
from cocoon_worker.engine.sampler import CocoonSampler  # noqa: E402

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm")]

SIZE = 3000
CPU = torch.device("cpu")
HOT = Sampling(temperature=1_300_000)


def seed(number: int) -> bytes:
    return number.to_bytes(16, "big")


def params(sampling: Sampling, of: bytes, *, choices: int = 1, index: int = 0, **change: Any) -> Any:
    """What vLLM hands to the processor: for one of several choices, a copy with a seed of its own."""
    fields = sampling.to_engine(of, choices=choices)
    arguments = fields.pop("vllm_xargs")
    if choices > 1:
        fields["seed"] += index
    return SamplingParams(**(fields | {"extra_args": arguments} | change))


def sampler(*, dense: bool = False) -> CocoonSampler:
    made = CocoonSampler(None, CPU, False)
    if dense:  # the rendering for accelerators, on the device that is here
        made._on_cpu, made._noise = False, choosing_dense.noise_table(CPU)
    return made


def update(size: int, *, added: Any = (), removed: Any = (), moved: Any = ()) -> BatchUpdate:
    return BatchUpdate(batch_size=size, removed=removed, added=added, moved=moved)


def logits(rows: int, number: int = 0, spread: float = 2.0) -> Any:
    drawn = np.random.default_rng(number).normal(0.0, spread, (rows, SIZE))
    return torch.from_numpy(drawn.astype(np.float32))


def expected(row: Any, sampling: Sampling, of: bytes, output: list[int], prompt: list[int] = []) -> int:  # noqa: B006
    token = choose(row.numpy(), sampling, of, len(output), prompt=prompt, output=output)
    assert token is not None
    return token


# -- whose rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", [False, True])
def test_sampler_leaves_one_token_of_its_rows_and_others_untouched(dense: bool) -> None:
    made = sampler(dense=dense)
    theirs = SamplingParams(temperature=0.5, extra_args={"another": 1})
    made.update_state(
        update(
            3,
            added=[
                (0, params(HOT, seed(1)), [1], []),
                (1, theirs, [1], []),
                (2, params(HOT, seed(2)), [1], [5, 6]),
            ],
        )
    )
    before = logits(3)

    after = made.apply(before.clone())

    assert torch.equal(after[1], before[1])
    for index, of, output in ((0, seed(1), []), (2, seed(2), [5, 6])):
        assert torch.isfinite(after[index]).sum() == 1
        assert int(after[index].argmax()) == expected(before[index], HOT, of, output)


def test_sampler_does_nothing_when_no_request_is_ours() -> None:
    made = sampler()
    before = logits(2)
    assert torch.equal(made.apply(before.clone()), before)
    made.update_state(None)
    made.update_state(update(1, added=[(0, SamplingParams(), None, [])]))
    assert torch.equal(made.apply(before.clone()), before)
    assert not made.is_argmax_invariant()


def test_sampler_follows_its_requests_when_the_batch_changes() -> None:
    made = sampler()
    made.update_state(update(4, added=[(index, params(HOT, seed(index)), [1], []) for index in range(4)]))
    # 0 leaves; 3 takes its place; 1 and 2 change places; a stranger's row follows.
    made.update_state(
        update(
            4,
            removed=[0],
            added=[(3, SamplingParams(), [1], []), (4, params(HOT, seed(9)), [1], [])],
            moved=[
                (4, 0, MoveDirectionality.UNIDIRECTIONAL),
                (1, 2, MoveDirectionality.SWAP),
            ],
        )
    )
    before = logits(4)

    after = made.apply(before.clone())

    for index, number in ((0, 9), (1, 2), (2, 1)):
        assert int(after[index].argmax()) == expected(before[index], HOT, seed(number), [])
    assert torch.equal(after[3], before[3])


def test_sampler_forgets_what_was_overwritten_by_a_move() -> None:
    made = sampler()
    made.update_state(update(2, added=[(index, params(HOT, seed(index)), [1], []) for index in range(2)]))
    made.update_state(update(1, moved=[(1, 0, MoveDirectionality.UNIDIRECTIONAL)]))
    before = logits(2)

    after = made.apply(before.clone())

    assert int(after[0].argmax()) == expected(before[0], HOT, seed(1), [])
    assert torch.equal(after[1], before[1])


def test_position_is_the_number_of_output_tokens_also_after_preemption() -> None:
    output = [4]
    steady, resumed = sampler(), sampler()
    steady.update_state(update(1, added=[(0, params(HOT, seed(3)), [1], output)]))
    output.append(5)  # the engine's own list grows
    resumed.update_state(update(1, added=[(0, params(HOT, seed(3)), [1], [4, 5])]))
    before = logits(1)

    chosen = {int(made.apply(before.clone())[0].argmax()) for made in (steady, resumed)}

    assert chosen == {expected(before[0], HOT, seed(3), [4, 5])}


def test_each_of_several_choices_has_its_own_seed() -> None:
    made = sampler()
    made.update_state(
        update(
            4, added=[(index, params(HOT, seed(3), choices=4, index=index), [1], []) for index in range(4)]
        )
    )
    before = logits(1).repeat(4, 1)

    chosen = made.apply(before.clone()).argmax(dim=1).tolist()

    assert chosen == [expected(before[0], HOT, choice_seed(seed(3), index), []) for index in range(4)]
    assert len(set(chosen)) > 1


# -- devices choose alike --------------------------------------------------------------------------------


def test_noise_is_the_same_in_torch_to_the_last_bit() -> None:
    keys = [row_key(seed(number), number) for number in range(6)]
    words = torch.tensor([[choosing_dense.signed(word) for word in key] for key in keys], dtype=torch.int32)

    drawn = choosing_dense.gumbel(choosing_dense.noise_table(CPU), words, 150_000)

    for number in range(6):
        assert np.array_equal(
            drawn[number].numpy(), gumbel(seed(number), number, np.arange(150_000, dtype=np.int64))
        )


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=10_000),
        Sampling(temperature=2 * MILLION),
        Sampling(top_k=1),
        Sampling(top_k=40, top_p=900_000),
        Sampling(temperature=700_000, top_p=950_000),
        Sampling(min_p=100_000),
        Sampling(min_p=20_000, top_k=100, top_p=900_000),
        Sampling(presence_penalty=MILLION, frequency_penalty=400_000),
        Sampling(repetition_penalty=1_300_000),
        Sampling(repetition_penalty=800_000, presence_penalty=-MILLION, top_p=800_000),
    ],
    ids=str,
)
def test_accelerators_choose_what_a_cpu_chooses(sampling: Sampling) -> None:
    rows = 24
    histories = [[7, 8, 8, index] * (index % 4) for index in range(rows)]
    prompts = [[1, 2, index] for index in range(rows)]
    added = [
        (index, params(sampling, seed(index)), prompts[index], histories[index]) for index in range(rows)
    ]
    before = logits(rows)
    chosen = []
    for dense in (False, True):
        made = sampler(dense=dense)
        made.update_state(update(rows, added=added))
        chosen.append(made.apply(before.clone()).argmax(dim=1).tolist())

    assert chosen[0] == chosen[1]


def test_accelerators_choose_for_each_row_with_its_own_parameters() -> None:
    mixed = [
        Sampling(),
        Sampling(top_k=3),
        Sampling(top_p=500_000),
        Sampling(min_p=200_000),
        Sampling(repetition_penalty=1_500_000),
        Sampling(frequency_penalty=MILLION),
        HOT,
    ]
    added = [(index, params(each, seed(index)), [1, 2, 3], [4] * index) for index, each in enumerate(mixed)]
    before = logits(len(mixed))
    made = sampler(dense=True)
    made.update_state(update(len(mixed), added=added))

    after = made.apply(before.clone()).argmax(dim=1).tolist()

    assert after == [
        expected(before[index], each, seed(index), [4] * index, [1, 2, 3]) for index, each in enumerate(mixed)
    ]


@pytest.mark.parametrize("dense", [False, True])
def test_masked_tokens_stay_masked(dense: bool) -> None:
    made = sampler(dense=dense)
    made.update_state(update(1, added=[(0, params(HOT, seed(1)), [1], [])]))
    before = torch.full((1, SIZE), -torch.inf)
    before[0, 77] = -9.0

    assert int(made.apply(before)[0].argmax()) == 77


# -- requests --------------------------------------------------------------------------------------------


def test_client_can_send_requests_of_ours_and_of_others() -> None:
    CocoonSampler.validate_params(SamplingParams())
    CocoonSampler.validate_params(SamplingParams(extra_args={"another": 1}))
    CocoonSampler.validate_params(params(HOT, seed(1)))
    CocoonSampler.validate_params(params(HOT, seed(1), choices=3, n=3))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"extra_args": {"cocoon_seed": "00" * 16}}, "exactly"),
        ({"extra_args": {"cocoon_temperature": 1}}, "seed"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"temperature": 0.5}, "seed 0"),
        ({"temperature": 0.5, "seed": 7}, "seed 0"),
        ({"temperature": 0.5, "seed": 0, "top_p": 0.9}, "top_p"),
        ({"temperature": 0.5, "seed": 0, "min_p": 0.1}, "min_p"),
    ],
)
def test_client_cannot_send_half_a_request_of_ours(change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        CocoonSampler.validate_params(params(HOT, seed(1), **change))
