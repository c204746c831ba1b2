"""The noise: the same everywhere to the last bit, and as random as a choice needs it."""

from __future__ import annotations

import hashlib
from decimal import ROUND_FLOOR, Decimal, localcontext

import numpy as np
import pytest

from cocoon_sdk.verify import noise
from cocoon_sdk.verify.noise import NOISE_UNIT, SEED_BYTES, choice_seed, gumbel, row_key

SEED = bytes(range(SEED_BYTES))
VOCABULARY = np.arange(49152, dtype=np.int64)
EULER = 0.5772156649015329
ROW_7 = (4234511549, 1084206022)
DRAWN_7 = [36555, 327919, -56083, 64857, -33578]
ROW_3_SHA256 = "03b6f5c5fd86bec9c3911b20fcc2fa7f12526fbd9c1312452245bac13fdb2046"
CHOICE_2 = "36fa64d258988d4b23673e274b045284"


def values(seed: bytes = SEED, position: int = 0) -> np.ndarray:
    return gumbel(seed, position, VOCABULARY) * NOISE_UNIT


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left, right)[0, 1])


# -- the rule, pinned ------------------------------------------------------------------------------------


def test_noise_cannot_change_unnoticed() -> None:
    drawn = gumbel(SEED, 7, np.array([0, 1, 2, 49151, noise.MAX_TOKEN], dtype=np.int64))

    assert row_key(SEED, 7) == ROW_7
    assert drawn.dtype == np.int32
    assert drawn.tolist() == DRAWN_7
    assert hashlib.sha256(values(position=3).astype("<f8").tobytes()).hexdigest() == ROW_3_SHA256
    assert choice_seed(SEED, 2).hex() == CHOICE_2


def test_table_has_the_agreed_hash() -> None:
    assert noise.table().shape == (3 * noise.PART,)
    assert hashlib.sha256(noise.table().astype("<i4").tobytes()).hexdigest() == noise.TABLE_SHA256
    assert not noise.table().flags.writeable


def test_table_is_the_gumbel_distribution_when_computed_in_decimals() -> None:
    # Every 61st cell, and those whose exact value lies closest to where rounding changes.
    distance = np.concatenate([(np.arange(noise.PART, 0, -1) - 0.5) / 2.0**bits for bits in (16, 24, 32)])
    exact = -np.log(-np.log1p(-distance)) / NOISE_UNIT
    doubtful = np.argsort(np.abs(np.abs(exact - np.floor(exact)) - 0.5))[:64]
    for cell in {*range(0, 3 * noise.PART, 61), *doubtful.tolist()}:
        with localcontext() as context:
            context.prec = 40
            part, index = divmod(cell, noise.PART)
            gap = (Decimal(noise.PART - index) - Decimal("0.5")) / 2 ** (16 + 8 * part)
            steps = -(-(1 - gap).ln()).ln() * 65536 + Decimal("0.5")
            assert abs(steps - steps.to_integral_value()) > Decimal("1e-6")
            assert noise.table()[cell] == int(steps.to_integral_value(ROUND_FLOOR))


def test_noise_cannot_be_drawn_when_the_machine_computes_another_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise, "TABLE_SHA256", "0" * 64)
    noise.table.cache_clear()
    try:
        with pytest.raises(noise.NoiseTableError, match="another build of NumPy"):
            noise.table()
    finally:
        noise.table.cache_clear()


def test_words_near_the_ends_have_their_own_cells() -> None:
    mixed = np.array([0, 0xFEFFFFFF, 0xFF000000, 0xFFFEFFFF, 0xFFFF0000, 0xFFFFFFFF], dtype=np.uint32)

    found = noise.cells(mixed)

    assert found.tolist() == [
        0,
        0xFEFF,
        noise.PART,
        noise.PART + 0xFEFF,
        2 * noise.PART,
        3 * noise.PART - 1,
    ]
    assert np.all(np.diff(noise.table()[found]) > 0)
    assert noise.table()[found[-1]] * NOISE_UNIT == pytest.approx(np.log(2.0**33), abs=1e-4)


# -- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [b"", bytes(15), bytes(17)])
def test_noise_cannot_be_drawn_from_a_seed_of_another_length(seed: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        row_key(seed, 0)
    with pytest.raises(ValueError, match="16 bytes"):
        choice_seed(seed, 0)


@pytest.mark.parametrize("position", [-1, noise.MAX_POSITION + 1])
def test_noise_cannot_be_drawn_outside_the_positions(position: int) -> None:
    with pytest.raises(ValueError, match="position"):
        row_key(SEED, position)


@pytest.mark.parametrize("token", [-1, noise.MAX_TOKEN + 1])
def test_noise_cannot_be_drawn_for_what_is_no_token(token: int) -> None:
    with pytest.raises(ValueError, match="token id"):
        gumbel(SEED, 0, np.array([0, token], dtype=np.int64))


def test_noise_of_no_tokens_is_empty() -> None:
    assert gumbel(SEED, 0, np.array([], dtype=np.int64)).shape == (0,)


def test_choices_have_seeds_of_their_own_and_the_first_the_request_s() -> None:
    seeds = [choice_seed(SEED, index) for index in range(64)]

    assert seeds[0] == SEED
    assert len(set(seeds)) == 64
    assert all(len(seed) == SEED_BYTES for seed in seeds)
    with pytest.raises(ValueError, match="choice"):
        choice_seed(SEED, -1)
    with pytest.raises(ValueError, match="choice"):
        choice_seed(SEED, noise.MAX_CHOICES)


# -- as random as needed (fixed seeds: each bound is more than four standard deviations wide) --------------


def test_noise_has_mean_variance_and_tail_of_a_gumbel_variable() -> None:
    drawn = np.concatenate([values(position=position) for position in range(40)])
    count = drawn.size

    assert drawn.mean() == pytest.approx(EULER, abs=4.5 * 1.2825 / count**0.5)
    assert drawn.var() == pytest.approx(np.pi**2 / 6, rel=4.5 * (4.4 / count) ** 0.5)
    for level in (-2.0, -1.0, 0.0, 1.0, 3.0, 6.0, 9.0, 11.0, 12.0):
        expected = -np.expm1(-np.exp(-level))
        spread = (expected * (1 - expected) * count) ** 0.5
        assert abs((drawn > level).sum() - expected * count) < 4.5 * spread + 1


def test_noise_is_independent_of_neighbouring_tokens_positions_and_seeds() -> None:
    bound = 4.5 / VOCABULARY.size**0.5
    drawn = values()
    for shift in (1, 2, 3, 64, 256, 4096):
        assert abs(correlation(drawn[shift:], drawn[:-shift])) < bound
    for position in (1, 2, 256, 65536):
        assert abs(correlation(drawn, values(position=position))) < bound
    for bit in range(8 * SEED_BYTES):
        other = (int.from_bytes(SEED, "big") ^ 1 << bit).to_bytes(SEED_BYTES, "big")
        assert abs(correlation(drawn, values(other))) < bound


def test_every_bit_of_a_token_changes_half_of_its_word() -> None:
    first, second = row_key(SEED, 0)
    for bit in range(17):
        change = noise.words(VOCABULARY, first, second) ^ noise.words(VOCABULARY ^ 1 << bit, first, second)
        ones = np.unpackbits(change.view(np.uint8)).reshape(VOCABULARY.size, 32).mean(axis=0)
        assert np.all(np.abs(ones - 0.5) < 0.02)


def test_most_likely_choice_follows_the_softmax() -> None:
    logits = np.array([2.0, 1.5, 1.0, 0.0, -1.0, -2.0, -4.0, 0.5])
    tokens = np.array([11, 12, 13, 500, 501, 40000, 40001, 49151], dtype=np.int64)
    draws = 20000
    counts = np.zeros(tokens.size)
    for position in range(draws):
        counts[np.argmax(logits + gumbel(SEED, position, tokens) * NOISE_UNIT)] += 1

    expected = draws * np.exp(logits) / np.exp(logits).sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 24.3  # 99.9 % of chi-square with 7 degrees of freedom


def test_a_unlikely_token_wins_as_often_as_it_should_among_a_whole_vocabulary() -> None:
    # One token holds 90 %; the rest share 10 %: whether the tail of the noise is right decides this.
    logits = np.full(VOCABULARY.size, np.log(0.1 / (VOCABULARY.size - 1)))
    logits[1234] = np.log(0.9)
    draws = 2000

    wins = sum(
        int(np.argmax(logits + gumbel(SEED, position, VOCABULARY) * NOISE_UNIT)) == 1234
        for position in range(draws)
    )

    assert abs(wins - 0.9 * draws) < 4.5 * (0.09 * draws) ** 0.5


def test_words_can_be_traced_back_to_their_tokens() -> None:
    first, second = row_key(SEED, 5)
    tokens = np.append(VOCABULARY, [noise.MAX_TOKEN, (1 << 32) - 1])

    assert np.array_equal(noise.owners(noise.words(tokens, first, second), first, second), tokens)


def test_least_word_is_the_first_with_so_much_noise() -> None:
    assert noise.least_word(-1e9) == 0
    assert noise.least_word(float(noise.table()[-1])) == (1 << 32) - 1
    assert noise.least_word(float(noise.table()[-1]) + 1) == 1 << 32
    for wanted in (-2.4, -1.0, 0.0, 0.5, 3.0, 5.5451, 7.3, 11.0, 11.09, 15.0, 22.8):
        word = noise.least_word(wanted / NOISE_UNIT)
        around = noise.table()[noise.cells(np.array([word - 1, word], dtype=np.uint32))] * NOISE_UNIT
        assert around[0] < wanted <= around[1]
