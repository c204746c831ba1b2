"""What `explain` tells of audits and of arbiters' votes: only what is signed, with the numbers behind it."""

from __future__ import annotations

from cocoon_sdk.crypto.keys import SigningKey
from cocoon_sdk.explain.facts import to_plain
from cocoon_sdk.explain.findings import ArbiterFound, ArbiterUnheard, AuditFound, votes_told
from cocoon_sdk.explain.words import Sentence, Speaker, Tone, say
from cocoon_sdk.protocol.disputes import (
    Ground,
    Measure,
    Measured,
    Opinions,
    Vote,
    VoteCommitment,
    commitment_digest,
)
from cocoon_sdk.types import Hash, Nano
from tests.helpers.suite import hash_of, key_of

DISPUTE = Hash(hash_of("dispute"))
KEYS = [key_of(f"arbiter {index}") for index in range(3)]
MEASURED = Measured(
    measures=(
        Measure(name="lp_mean", value=12_000, refund=40_000, slash=110_000),
        Measure(name="tok_max", value=3_100_000, refund=90_000, slash=240_000),
    ),
    faults=("another prompt",),
)


def vote(index: int, ground: Ground = Ground.SLASH, **changes: object) -> Vote:
    fields = {
        "dispute": DISPUTE,
        "index": index,
        "pay": Nano(0),
        "slash": Nano.ton(2),
        "ground": ground,
        "late": False,
        "measured": MEASURED,
        "salt": bytes(16),
    }
    return Vote(**{**fields, **changes})  # type: ignore[arg-type]


def committed(vote: Vote, key: SigningKey) -> VoteCommitment:
    digest = vote.digest()
    return VoteCommitment(
        index=vote.index, vote=digest, signature=key.sign(commitment_digest(DISPUTE, vote.index, digest))
    )


def told(
    *votes: Vote, keys: list[SigningKey] | None = None, more: tuple[VoteCommitment, ...] = ()
) -> list[ArbiterFound]:
    signed = tuple(committed(each, (keys or KEYS)[each.index]) for each in votes)
    opinions = Opinions(dispute=DISPUTE, commitments=(*signed, *more), votes=votes)
    travelled = Opinions.from_bytes(opinions.to_bytes())
    return votes_told([travelled, travelled], [key.verify_key for key in KEYS])


def words(fact: object) -> Sentence:
    return say(fact, Speaker(lambda address: address.to_str(), 0))  # type: ignore[arg-type]


def test_reader_sees_each_vote_once_with_the_numbers_that_decided_it() -> None:
    found = told(vote(2), vote(0, Ground.HONEST, slash=Nano(0), pay=Nano.ton(1), measured=None))
    assert [each.arbiter for each in found] == [0, 2]
    assert words(found[0]) == Sentence(
        "Arbiter 0 found: honest. It would pay 1 TON and slash 0 TON.", Tone.GOOD
    )
    assert words(found[1]) == Sentence(
        "Arbiter 2 found: slash. It would pay 0 TON and slash 2 TON. Another prompt; "
        "log-probabilities are off by 0.012 nat on average (the reward goes beyond 0.04 nat, "
        "collateral beyond 0.11 nat); choices are off by up to 3.1 nat (the reward goes beyond 0.09 nat, "
        "collateral beyond 0.24 nat).",
        Tone.BAD,
    )
    assert to_plain(found[1])["numbers"]["tok_max"] == {
        "value": 3_100_000,
        "refund": 90_000,
        "slash": 240_000,
    }


def test_vote_does_not_count_when_no_arbiter_signed_it() -> None:
    stranger = [key_of("stranger")] * 3
    assert told(vote(1), keys=stranger) == []
    other = vote(1, Ground.HONEST)
    opinions = Opinions(dispute=DISPUTE, commitments=(committed(other, KEYS[1]),), votes=(vote(1),))
    assert votes_told([opinions], [KEYS[1].verify_key]) == []


def test_arbiter_cannot_speak_in_the_name_of_another() -> None:
    own, foreign = vote(0), vote(2, Ground.HONEST)
    both = told(own, foreign, keys=[KEYS[0], KEYS[1], KEYS[0]])
    assert both == []
    # Nor can it keep another one's vote from being heard by anything but silence about both.
    assert told(vote(1), more=(committed(vote(1, Ground.HONEST), KEYS[0]),)) == []


def test_reader_is_told_of_an_arbiter_that_committed_twice() -> None:
    other = vote(1, Ground.HONEST)
    (found,) = told(vote(1), more=(committed(other, KEYS[1]),))
    assert found.dishonest
    assert "neither counts" in words(found).text


def test_reader_is_told_what_an_audit_came_to() -> None:
    fact = AuditFound(
        subject="job 3",
        outcome="failed",
        why="TOK is beyond what honest answers show",
        verifier="worker a, worker b",
        cost=Nano(5_000),
        numbers={"tok_mean": 2_000_000},
    )
    assert words(fact) == Sentence(
        "The client's own check of job 3: failed (TOK is beyond what honest answers show), recomputed by "
        "worker a, worker b for 0.000005 TON. Choices are off by 2 nat on average.",
        Tone.BAD,
    )
    unheard = ArbiterUnheard(where="http://arbiter.example", why="no answer")
    assert words(unheard).text == "The arbiter at http://arbiter.example told no vote: no answer."
