"""Forms of evidence, votes and announcements: they read back, are bounded, and bind what they name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytoniq_core import Address

from cocoon_sdk.crypto.boxes import seal
from cocoon_sdk.crypto.keys import BoxKey, SigningKey
from cocoon_sdk.errors import CocoonError, DecryptionError, MalformedError
from cocoon_sdk.protocol import disputes as d
from cocoon_sdk.protocol.signing import Domain
from cocoon_sdk.types import Hash, Nano

KEY = SigningKey(bytes(range(32)))
BOX = BoxKey(bytes(range(32)))
DISPUTE = Hash(bytes(range(32)))
ITEMS = st.builds(
    d.Item,
    st.sampled_from(d.ItemKind),
    st.binary(max_size=300),
    st.lists(st.builds(d.Receipt, st.integers(0, 255), st.binary(min_size=64, max_size=64)), max_size=9).map(
        tuple
    ),
)


@given(st.lists(ITEMS, min_size=1, max_size=5, unique_by=lambda item: item.kind).map(tuple))
def test_evidence_reads_back(items: tuple[d.Item, ...]) -> None:
    evidence = d.Evidence(DISPUTE, items)
    assert d.open_evidence(d.seal_evidence(evidence, BOX.public_key), BOX) == evidence


@given(st.binary(max_size=600))
def test_arbiter_reads_no_evidence_out_of_noise(data: bytes) -> None:
    with pytest.raises(CocoonError):
        d.open_evidence(data, BOX)


def test_evidence_cannot_be_opened_when_it_was_altered() -> None:
    sealed = bytearray(d.seal_evidence(d.Evidence(DISPUTE, (d.payload_item(b"w", b"t"),)), BOX.public_key))
    with pytest.raises(DecryptionError):
        d.open_evidence(bytes(sealed), BoxKey.generate())
    sealed[-1] ^= 1
    with pytest.raises(DecryptionError):
        d.open_evidence(bytes(sealed), BOX)


def test_evidence_shows_nothing_twice() -> None:
    item = d.Item(d.ItemKind.TERMS, b"{}")
    sealed = d.seal_evidence(d.Evidence(DISPUTE, (item,)), BOX.public_key)
    assert d.open_evidence(sealed, BOX).items == (item,)
    with pytest.raises(ValueError, match="twice"):
        d.Evidence(DISPUTE, (item, item))
    text = msgspec.msgpack.encode([bytes(DISPUTE), [item, item]])
    sender = BoxKey.generate()
    with pytest.raises(MalformedError):
        d.open_evidence(b"\1" + sender.public_key.raw + seal(text, sender, BOX.public_key), BOX)


def test_evidence_cannot_be_sent_when_it_is_too_large() -> None:
    item = d.Item(d.ItemKind.RESULT, bytes(d.MAX_EVIDENCE_BYTES))
    with pytest.raises(MalformedError, match="exceed"):
        d.seal_evidence(d.Evidence(DISPUTE, (item,)), BOX.public_key)


def test_evidence_shows_no_content_when_it_is_printed() -> None:
    assert "secret" not in repr(d.Evidence(DISPUTE, (d.payload_item(b"", b"secret"),)))


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_payload_item_reads_back(wire: bytes, text: bytes) -> None:
    assert d.split_payload(d.payload_item(wire, text).data) == (wire, text)


@pytest.mark.parametrize("data", [b"\0\0\0\1", b"\xff\xff\xff\xff" + bytes(10)])
def test_payload_item_cannot_be_read_when_it_is_cut_short(data: bytes) -> None:
    with pytest.raises(MalformedError):
        d.split_payload(data)


def test_dispute_is_named_by_network_escrow_activation_job_and_time() -> None:
    domain = Domain(-239, Address((0, bytes(32))), 7)
    others = [
        Domain(-3, domain.contract, 7),
        Domain(-239, Address((0, bytes(31) + b"\1")), 7),
        Domain(-239, domain.contract, 8),
    ]
    names = {d.dispute_digest(each, d.DisputeKind.JOB, 1, 5) for each in (domain, *others)}
    names |= {d.dispute_digest(domain, d.DisputeKind.JOB, *each) for each in ((2, 5), (1, 6))}
    names.add(d.dispute_digest(domain, d.DisputeKind.SESSION, 1, 5))
    assert len(names) == 7


def vote(**changes: object) -> d.Vote:
    fields: dict[str, object] = {
        "dispute": DISPUTE,
        "index": 1,
        "pay": Nano(5),
        "slash": Nano(0),
        "ground": d.Ground.HONEST,
        "late": False,
        "salt": bytes(16),
    }
    return d.Vote(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"index": 2}, {"pay": Nano(6)}, {"slash": Nano(1)}, {"late": True}, {"salt": bytes(15) + b"\1"}],
    ids=str,
)
def test_commitment_binds_all_of_a_vote(changes: dict[str, object]) -> None:
    assert vote(**changes).digest() != vote().digest()


def test_commitment_counts_for_its_key_dispute_and_arbiter_only() -> None:
    digest = vote().digest()
    signed = d.VoteCommitment(
        index=1, vote=digest, signature=KEY.sign(d.commitment_digest(DISPUTE, 1, digest))
    )
    assert signed.is_of(KEY.verify_key, DISPUTE)
    assert not signed.is_of(SigningKey(bytes(32)).verify_key, DISPUTE)
    assert not signed.is_of(KEY.verify_key, bytes(32))
    assert not signed.model_copy(update={"index": 2}).is_of(KEY.verify_key, DISPUTE)


def test_opinions_read_back() -> None:
    verdict = d.SignedVerdict(index=1, pay=Nano(5), slash=Nano(0), signature=bytes(64))
    commitment = d.VoteCommitment(index=1, vote=vote().digest(), signature=bytes(64))
    opinions = d.Opinions(dispute=DISPUTE, commitments=(commitment,), votes=(vote(),), verdicts=(verdict,))
    assert d.Opinions.from_bytes(opinions.to_bytes()) == opinions


def test_opinions_cannot_be_read_beyond_their_bounds() -> None:
    commitment = d.VoteCommitment(index=1, vote=vote().digest(), signature=bytes(64))
    wire = d.Opinions(dispute=DISPUTE).to_wire()
    wire["commitments"] = [commitment.to_wire()] * (2 * d.MAX_ARBITERS + 1)
    with pytest.raises(MalformedError):
        d.Opinions.from_wire(wire)
    with pytest.raises(MalformedError):
        d.Opinions.from_bytes(bytes(d.MAX_OPINIONS_BYTES + 1))


def info() -> d.ArbiterInfo:
    return d.ArbiterInfo(
        network=-239, key=KEY.verify_key, box_key=BOX.public_key, url="https://arbiter.example", since=7
    )


def test_arbiter_is_who_it_says_when_its_key_signed() -> None:
    signed = info().signed(KEY)
    assert d.ArbiterInfo.from_bytes(signed.to_bytes()) == signed
    for forged in (info(), info().signed(SigningKey(bytes(32))), signed.model_copy(update={"since": 8})):
        with pytest.raises(MalformedError, match="not its own"):
            d.ArbiterInfo.from_bytes(forged.to_bytes())
