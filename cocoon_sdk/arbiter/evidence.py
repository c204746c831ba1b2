"""What evidence is worth: does it fit what the chain holds, what does it show, what is there to be judged.

Owns checking each item, what follows from several together, and what the chain itself shows. Must not know
how evidence travels or is kept. Errors never repeat content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from pytoniq_core import Cell

from cocoon_sdk.arbiter.errors import EvidenceError
from cocoon_sdk.arbiter.receipts import SessionCase, read_case
from cocoon_sdk.arbiter.rules import Delivery, Outcome, SessionShown, Shown
from cocoon_sdk.contracts.disputes import Dispute
from cocoon_sdk.crypto.keys import KEY_BYTES, BoxKey
from cocoon_sdk.data import InlineData, decode_data
from cocoon_sdk.errors import CocoonError, DecryptionError, HashMismatchError, MalformedError
from cocoon_sdk.protocol.canonical import parse_canonical
from cocoon_sdk.protocol.disputes import (
    DisputeKind,
    Ground,
    Item,
    ItemKind,
    payload_item,
    received_digest,
    split_payload,
)
from cocoon_sdk.protocol.envelope import (
    JobKind,
    JobRef,
    PayloadPlain,
    ResultPlain,
    open_payload_text,
    open_result_text,
    parse_payload_text,
    parse_result_text,
    payload_hash,
    read_payload_header,
    result_hash,
)
from cocoon_sdk.protocol.hashing import same_hash
from cocoon_sdk.protocol.pricing import price
from cocoon_sdk.protocol.requests import check_request
from cocoon_sdk.protocol.session_evidence import evidence_digest
from cocoon_sdk.protocol.terms import SamplingClass, Terms
from cocoon_sdk.verify.commitment import Commitment

Items: TypeAlias = Mapping[ItemKind, bytes]
"""Evidence that was checked, by kind."""
_MAX_TERMS_BYTES: Final = 4096
_CHECKABLE: Final = frozenset({JobKind.CHAT_COMPLETION, JobKind.COMPLETION})


@dataclass(frozen=True, slots=True)
class OnChain:
    """Sealed bytes that stand on chain; None where they are somewhere else, or are no data in form."""

    payload: bytes | None = field(repr=False)
    result: bytes | None = field(repr=False)

    @property
    def delivery(self) -> Delivery:
        """Whether the result itself stands on chain."""
        return Delivery.ELSEWHERE if self.result is None else Delivery.SEALED


def on_chain_of(payload: Cell | None, result: Cell | None) -> OnChain:
    """Read the data cells that client and worker put on chain; what is not in form was not delivered."""
    found: list[bytes | None] = []
    for cell in (payload, result):
        try:
            where = None if cell is None else decode_data(cell)
        except CocoonError:
            where = None
        found.append(where.content if isinstance(where, InlineData) else None)
    return OnChain(*found)


def published(dispute: Dispute, on_chain: OnChain) -> Item | None:
    """Return the payload as evidence if it is a public one on chain: then nobody has to bring it."""
    if on_chain.payload is None:
        return None
    try:
        text = open_payload_text(on_chain.payload, (), dispute.payload_hash)
    except CocoonError:
        return None
    return payload_item(on_chain.payload, text)


# -- single items ------------------------------------------------------------------------------------------


def check_item(item: Item, dispute: Dispute, known: Items) -> None:
    """Check one item against the chain and what is known already. Raises `EvidenceError`."""
    fits = _FITS[dispute.kind].get(item.kind)
    if fits is None:
        what = f"the {item.kind.name.lower()} is no evidence in this dispute"
        raise EvidenceError(what, why=f"it is about a {dispute.kind.name.lower()}")
    try:
        right = fits(item.data, dispute, known)
    except CocoonError as error:
        raise EvidenceError(f"the {item.kind.name.lower()} cannot be read", why=error.why) from None
    if not right:
        raise EvidenceError(
            f"this is not the {item.kind.name.lower()} of the dispute", why="the chain holds another one"
        )


def _fits_payload(data: bytes, dispute: Dispute, _: Items) -> bool:
    return same_hash(payload_hash(*split_payload(data)), dispute.payload_hash)


def _fits_result(data: bytes, dispute: Dispute, _: Items) -> bool:
    return same_hash(result_hash(data), dispute.result_hash)


def _fits_client_key(data: bytes, _: Dispute, known: Items) -> bool:
    if ItemKind.PAYLOAD not in known:
        raise MalformedError("the key cannot be checked", why="the payload is not there yet")
    if len(data) != KEY_BYTES:
        raise MalformedError("the key has a wrong length")
    wire, _text = split_payload(known[ItemKind.PAYLOAD])
    return read_payload_header(wire).client_key == BoxKey(data).public_key


def _fits_received(data: bytes, dispute: Dispute, _: Items) -> bool:
    digest = received_digest(dispute.digest, dispute.result_hash)
    return dispute.hot_key is not None and dispute.hot_key.verify(digest, data)


def _fits_terms(data: bytes, dispute: Dispute, _: Items) -> bool:
    return same_hash(_read_terms(data).terms_hash, dispute.terms_hash)


def _fits_session(data: bytes, dispute: Dispute, _: Items) -> bool:
    return same_hash(evidence_digest(data), dispute.result_hash)


_FITS: Final[Mapping[DisputeKind, Mapping[ItemKind, Callable[[bytes, Dispute, Items], bool]]]] = {
    DisputeKind.JOB: {
        ItemKind.PAYLOAD: _fits_payload,
        ItemKind.RESULT: _fits_result,
        ItemKind.CLIENT_KEY: _fits_client_key,
        ItemKind.RECEIVED: _fits_received,
        ItemKind.TERMS: _fits_terms,
    },
    DisputeKind.SESSION: {ItemKind.SESSION: _fits_session},
}


def _read_terms(data: bytes) -> Terms:
    return Terms.from_wire(parse_canonical(data, max_bytes=_MAX_TERMS_BYTES))


# -- all of it together ------------------------------------------------------------------------------------


def opened_result(dispute: Dispute, on_chain: OnChain, known: Items) -> tuple[bool | None, bytes | None]:
    """Return whether the client's key opens the result on chain to the committed text, and that text.

    None: the key is not there, or no result stands on chain.
    """
    if on_chain.result is None or ItemKind.CLIENT_KEY not in known:
        return None, None
    try:
        key = BoxKey(known[ItemKind.CLIENT_KEY])
        return True, open_result_text(on_chain.result, key, dispute.result_hash)
    except (DecryptionError, HashMismatchError, MalformedError):
        return False, None


def what_is_shown(dispute: Dispute, on_chain: OnChain, known: Items) -> Shown | SessionShown:
    """Return which evidence is there, for the decision table."""
    if dispute.kind is DisputeKind.SESSION:
        return SessionShown(ItemKind.SESSION in known)
    opens, _text = opened_result(dispute, on_chain, known)
    return Shown(
        delivery=on_chain.delivery,
        payload=ItemKind.PAYLOAD in known,
        result=ItemKind.RESULT in known,
        client_key=ItemKind.CLIENT_KEY in known,
        received=ItemKind.RECEIVED in known,
        terms=ItemKind.TERMS in known,
        opens=opens,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """Content that has to be judged: everything in it is what both sides committed to."""

    dispute: Dispute
    payload: PayloadPlain = field(repr=False)
    result: ResultPlain = field(repr=False)
    commitment: Commitment = field(repr=False)
    terms: Terms | None


@dataclass(frozen=True, slots=True)
class Weighed:
    """What evidence comes to: a ground, or a case to judge. `due` is what an overcharging worker earned."""

    ground: Ground | None
    case: Case | SessionCase | None = None
    due: int = 0


def weigh(dispute: Dispute, known: Items, found: Outcome) -> Weighed:
    """Go on in the decision table where evidence alone did not decide; no model is needed for this."""
    if found.ground is not None:
        return Weighed(found.ground)
    if ItemKind.SESSION in known:
        shown = read_case(dispute, known[ItemKind.SESSION])
        return Weighed(Ground.CLIENT_SILENT if shown is None else None, shown)
    _wire, text = split_payload(known[ItemKind.PAYLOAD])
    try:
        payload = parse_payload_text(text)
        if payload.kind in _CHECKABLE:
            # What workers refuse is nobody's debt, and may be made to misuse the engine that re-scores.
            check_request(payload.kind.value, payload.request)
    except MalformedError:
        return Weighed(Ground.BAD_PAYLOAD)
    try:
        result = parse_result_text(known[ItemKind.RESULT])
    except MalformedError:
        return Weighed(Ground.BAD_RESULT)
    if result.job != JobRef.of(dispute.escrow, dispute.number):
        return Weighed(Ground.BAD_RESULT)
    terms = _read_terms(known[ItemKind.TERMS]) if found.with_terms else None
    if terms is not None and price(result.usage, terms) < dispute.amount:
        return Weighed(Ground.OVERCHARGED, due=int(price(result.usage, terms)))
    promised = terms is not None and terms.sampling is not SamplingClass.UNVERIFIED
    if payload.kind not in _CHECKABLE or (result.proof is None and not promised):
        return Weighed(Ground.NOT_CHECKABLE)
    try:
        commitment = Commitment.from_json(result.proof)
    except MalformedError:
        # Nobody was promised a commitment that can be read: an engine of one's own may put anything there.
        return Weighed(Ground.NO_COMMITMENT if promised else Ground.NOT_CHECKABLE)
    return Weighed(None, Case(dispute, payload, result, commitment, terms))
