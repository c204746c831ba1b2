"""A client goes on sending its evidence until one liar among the arbiters cannot make it silent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cocoon_sdk.chain.base import ChainHead
from cocoon_sdk.client import session_evidence as room
from cocoon_sdk.client.arbiters import Delivered
from cocoon_sdk.client.errors import EvidenceNotSentError, EvidenceTooLateError
from cocoon_sdk.client.session_evidence import send_session_evidence
from cocoon_sdk.protocol.disputes import Item, ItemKind
from cocoon_sdk.protocol.session_evidence import evidence_digest

DISPUTED_AT, EVIDENCE_S = 1000, 600
DATA = b"evidence"


class ScriptedArbiters:
    """Of `known` arbiters those in `signing` sign for what they are sent; 0 lies and passes nothing on."""

    def __init__(self, known: int, signing: set[int]) -> None:
        self.known, self.signing = known, signing

    async def send_evidence(self, dispute: Any, items: list[Item]) -> tuple[Delivered, ...]:
        return tuple(
            Delivered(index, frozenset(item.kind for item in items))
            if index in self.signing
            else Delivered(index, frozenset(), "it is away", reached=False, away=True)
            for index in range(self.known)
        )


async def send(
    monkeypatch: pytest.MonkeyPatch, signing: set[int], *, n: int, k: int, known: int, now: int = DISPUTED_AT
) -> tuple[Delivered, ...]:
    """Send evidence in the dispute of a session with n arbiters, of which k sign a verdict."""
    dispute = SimpleNamespace(
        result_hash=evidence_digest(DATA),
        members=dict.fromkeys(range(n)),
        threshold=k,
        disputed_at=DISPUTED_AT,
        evidence_s=EVIDENCE_S,
    )

    async def read(*_: object) -> Any:
        return dispute

    async def head() -> ChainHead:
        return ChainHead(1, now)

    monkeypatch.setattr(room, "read_session_dispute", read)
    context: Any = SimpleNamespace(
        arbiters=ScriptedArbiters(known, signing),
        chain=SimpleNamespace(head=head),
        escrow=SimpleNamespace(address=None),
    )
    monkeypatch.setattr(room, "Escrow", SimpleNamespace(at=lambda *_: None))
    return await send_session_evidence(context, 1, DATA)


@pytest.mark.parametrize(
    ("n", "k", "known", "enough"), [(3, 2, 3, 2), (5, 3, 5, 3), (5, 4, 5, 2), (3, 3, 3, 1), (5, 3, 2, 2)]
)
async def test_evidence_is_sent_when_any_verdict_needs_one_who_has_it(
    monkeypatch: pytest.MonkeyPatch, n: int, k: int, known: int, enough: int
) -> None:
    for count in range(enough):
        with pytest.raises(EvidenceNotSentError, match="again before the evidence deadline") as caught:
            await send(monkeypatch, set(range(count)), n=n, k=k, known=known)
        assert not isinstance(caught.value, EvidenceTooLateError)
    delivered = await send(monkeypatch, set(range(enough)), n=n, k=k, known=known)
    assert sum(ItemKind.SESSION in each.taken for each in delivered) == enough


async def test_nothing_is_sent_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    last = DISPUTED_AT + EVIDENCE_S
    with pytest.raises(EvidenceNotSentError, match="with 1 arbiters, 2 are needed") as caught:
        await send(monkeypatch, {0}, n=3, k=2, known=3, now=last - 1)
    assert not isinstance(caught.value, EvidenceTooLateError)
    with pytest.raises(EvidenceTooLateError, match="deadline is over"):
        await send(monkeypatch, {0}, n=3, k=2, known=3, now=last)
