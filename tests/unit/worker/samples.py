"""Sample rows and facts for the worker's unit tests."""

from __future__ import annotations

import hashlib
from typing import Any

from cocoon_sdk.protocol import JobKind, PayloadPlain
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.types import Nano
from cocoon_worker.admission import EscrowFacts, JobView, PayloadFacts, Situation, StakeFacts
from cocoon_worker.catalogue import OwnOffer, own_offers
from cocoon_worker.config import OfferConfig, Policy
from cocoon_worker.records import JobFacts, JobKey, JobRecord, ResultRecord
from cocoon_worker.states import JobState

NOW = 1_780_000_000
STAKE = 77
OPERATOR = 4242
PARAMS = hashlib.sha256(b"params").digest()
MODEL_ID = hashlib.sha256(b"model").digest()


def offer(**changes: Any) -> OwnOffer:
    fields: dict[str, Any] = {
        "model": "model-x",
        "model_id": MODEL_ID.hex(),
        "input_price": "100",
        "output_price": "200",
        "minimum_price": "0.01",
        "tokens_per_second": 10.0,
        **changes,
    }
    return own_offers([OfferConfig(**fields)], {})[0]


def job_view(**changes: Any) -> JobView:
    fields: dict[str, Any] = {
        "status": 0,
        "worker": STAKE,
        "operator_key": OPERATOR,
        "deadline": NOW + 3600,
        "price": Nano.ton("0.5"),
        "window": 3600,
        "collateral": Nano.ton(2),
        "bond": Nano.ton("0.02"),
        "params_hash": PARAMS,
        "model_id": MODEL_ID,
        "terms_hash": offer().terms_hash,
        "items": 1,
        "work_period": 3600,
    }
    return JobView(**{**fields, **changes})


def stake_facts(**changes: Any) -> StakeFacts:
    fields: dict[str, Any] = {
        "account": STAKE,
        "active": True,
        "operator_key": OPERATOR,
        "params_hash": PARAMS,
        "lockable": Nano.ton(10),
        "locked": Nano(0),
        "max_locked": Nano.ton(10),
        "bucket": Nano.ton(10),
        "locks": 0,
        "gas": Nano.ton(1),
    }
    return StakeFacts(**{**fields, **changes})


def situation(**changes: Any) -> Situation:
    fields: dict[str, Any] = {
        "now": NOW,
        "operator_key": OPERATOR,
        "offers": [offer()],
        "policy": Policy(),
        "jobs": 0,
        "queue_s": 0,
    }
    return Situation(**{**fields, **changes})


def payload(kind: JobKind = JobKind.CHAT_COMPLETION, model: str = "model-x", **request: Any) -> PayloadFacts:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 16, **request}
    return PayloadFacts(PayloadPlain(kind=kind, model=model, request=body))


GENUINE = EscrowFacts(genuine=True)
FULL = c.MAX_LOCKS


def job_facts() -> JobFacts:
    return JobFacts(
        escrow_owner=5,
        escrow_index=0,
        escrow_epoch=NOW,
        escrow_previous_code=False,
        own_previous_code=False,
        job_hash=0xAB,
        payload_hash="cd" * 32,
        offer=offer().to_json(),
        max_price=10**9,
        run_s=3,
    )


def job_record(**changes: Any) -> JobRecord:
    fields: dict[str, Any] = {
        "key": JobKey(1 << 200, 7),
        "state": JobState.OFFERED,
        "is_open": False,
        "notice_lt": 11,
        "created_at": NOW,
        "updated_at": NOW,
        "facts": job_facts(),
    }
    return JobRecord(**{**fields, **changes})


def result_record() -> ResultRecord:
    return ResultRecord(b"sealed", b"text", b"\x07" * 32, Nano(123), b"\x08" * 64, NOW)
