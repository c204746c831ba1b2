"""Planning a job: what is asked, of whom, under which terms, and what it can cost, before anything is spent.

Owns the checks and the arithmetic. Must not send anything. Amounts in nanoTON, times in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from cocoon_sdk.client.discovery import WorkerList, WorkerOffer
from cocoon_sdk.contracts.registry import RegisteredModel
from cocoon_sdk.errors import (
    ConfigError,
    InsufficientStakeError,
    JobError,
    NoWorkerError,
    PriceTooHighError,
)
from cocoon_sdk.protocol import constants as c
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.protocol import pricing
from cocoon_sdk.protocol.canonical import canonical_bytes
from cocoon_sdk.protocol.envelope import JobKind, PayloadPlain
from cocoon_sdk.protocol.exit_codes import BadPeriodsError
from cocoon_sdk.protocol.terms import Terms
from cocoon_sdk.types import Nano

SHORT_WINDOW_S: Final = 3600
LONG_WINDOW_S: Final = 24 * 3600
LONG_WINDOW_FROM: Final = Nano.ton(1)
"""Jobs from this price on have a day to be challenged, unless told otherwise."""
DEFAULT_CLAIM_S: Final = 900
DEFAULT_WORK_S: Final = 1800
DEFAULT_OUTPUT_TOKENS: Final = 1024
_TEMPLATE_TOKENS: Final = 256
"""Tokens that a chat template may add to a prompt."""
_NO_OUTPUT: Final = frozenset({JobKind.EMBEDDING})


@dataclass(frozen=True, slots=True)
class JobCost:
    """What opening a job takes out of free funds; what it does not use is free again at its end.

    `price` is the most the worker can get, `bond` comes back unless a dispute is lost, `announcements` go to
    the market, `gas` is set aside for the job's whole path, `inline` is what carrying the payload in the
    message costs, `external` bounds the fee of the opening message itself.
    """

    price: Nano
    bond: Nano
    announcements: Nano
    gas: Nano
    inline: Nano
    external: Nano

    @property
    def spend(self) -> Nano:
        """What the signed external has to allow."""
        return self.price + self.bond + self.announcements + self.gas + self.inline

    @property
    def total(self) -> Nano:
        """What has to be free beforehand."""
        return self.spend + self.external


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asks for, in one form: the OpenAI body without the model, and its bounds in tokens."""

    kind: JobKind
    body: dict[str, Any] = field(repr=False)
    max_input_tokens: int
    max_output_tokens: int
    choices: int
    is_output_asked: bool = True
    """Whether the caller set the number of output tokens; else a worker's own limit may lower it."""

    def within(self, limit: int) -> JobRequest:
        """Return the request as a worker with that limit of output tokens can serve it."""
        if self.is_output_asked or self.max_output_tokens <= limit:
            return self
        return replace(self, max_output_tokens=limit, body={**self.body, "max_tokens": limit})

    def max_price(self, terms: Terms) -> Nano:
        """Return the most this can cost under `terms`."""
        return pricing.max_price(
            terms,
            max_input_tokens=self.max_input_tokens,
            max_output_tokens=self.max_output_tokens * self.choices,
        )

    def payload(self, model: str) -> PayloadPlain:
        """Return the plaintext for a worker that calls the model so."""
        return PayloadPlain(kind=self.kind, model=model, request={**self.body, "model": model})


@dataclass(frozen=True, slots=True)
class Periods:
    """Seconds to claim (or to answer without a claim), to work after a claim, and to challenge."""

    claim_s: int
    work_s: int
    window_s: int


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job that passed all checks that need no payload. `worker` is None for an open one."""

    model: RegisteredModel
    request: JobRequest
    terms: Terms
    worker: WorkerOffer | None
    price: Nano
    periods: Periods
    payload: PayloadPlain = field(repr=False)


def normalise(
    kind: JobKind | str | None,
    messages: list[dict[str, Any]] | None,
    request: dict[str, Any] | None,
    max_output_tokens: int | None,
    max_input_tokens: int | None,
) -> JobRequest:
    """Bring what a caller gives into one form. Raises `ConfigError`, `MalformedError` if it is no JSON."""
    if (messages is None) == (request is None):
        raise ConfigError("cannot create a job", why="exactly one of messages and request is needed")
    body: dict[str, Any] = dict(request) if request is not None else {"messages": messages}
    if body.get("stream"):
        raise ConfigError("a job does not stream", hint="Leave `stream` out; sessions stream")
    chosen = JobKind(kind) if kind is not None else _guess(body)
    body.pop("model", None)
    output, asked = 0, None
    if chosen not in _NO_OUTPUT:
        asked = max_output_tokens or body.get("max_completion_tokens") or body.get("max_tokens")
        output = DEFAULT_OUTPUT_TOKENS if asked is None else asked
        if not isinstance(output, int) or isinstance(output, bool) or output < 1:
            raise ConfigError("cannot create a job", why="max_output_tokens is no positive integer")
        body.pop("max_completion_tokens", None)
        body["max_tokens"] = output
    choices = body.get("n", 1)
    if not isinstance(choices, int) or isinstance(choices, bool) or not 1 <= choices <= 128:
        raise ConfigError("cannot create a job", why="n is no integer from 1 to 128")
    # No tokenizer makes more tokens than there are bytes; callers who counted may say so.
    bound = len(canonical_bytes(body)) + _TEMPLATE_TOKENS
    tokens = bound if max_input_tokens is None else max_input_tokens
    return JobRequest(chosen, body, tokens, output, choices, is_output_asked=asked is not None)


def _guess(body: dict[str, Any]) -> JobKind:
    for name, kind in (
        ("messages", JobKind.CHAT_COMPLETION),
        ("prompt", JobKind.COMPLETION),
        ("input", JobKind.EMBEDDING),
    ):
        if name in body:
            return kind
    raise ConfigError(
        "cannot tell what kind of job this is",
        why="the request has neither messages nor prompt nor input",
        hint="Pass `kind`",
    )


def choose(
    listed: WorkerList,
    request: JobRequest,
    max_price: Nano | None,
    params: m.Params,
    *,
    secured: bool = True,
) -> WorkerOffer:
    """Return the cheapest worker that can do it.

    `secured` jobs have a window, and so need collateral. Raises `NoWorkerError`, `PriceTooHighError` or
    `InsufficientStakeError`.
    """
    what = f"no worker for {listed.model.name or listed.model.model_id.hex()}"
    refused: JobError | None = None
    found: list[tuple[Nano, WorkerOffer]] = []
    for offer in listed:
        try:
            found.append((check_offer(offer, request, max_price, params, secured=secured), offer))
        except (NoWorkerError, PriceTooHighError, InsufficientStakeError) as error:
            refused = refused or error
    if not found:
        raise refused or NoWorkerError(
            what, why=f"left out: {listed.why_ignored()}", hint="See workers.list(); workers announce weekly"
        )
    return min(found, key=lambda item: item[0])[1]


def can_do(offer: WorkerOffer, request: JobRequest, max_price: Nano | None, params: m.Params) -> bool:
    """Tell whether a worker can do it, with a window; `check_offer` says why not."""
    try:
        check_offer(offer, request.within(offer.offer.max_output_tokens), max_price, params)
    except JobError:
        return False
    return True


def check_offer(
    offer: WorkerOffer,
    request: JobRequest,
    max_price: Nano | None,
    params: m.Params,
    *,
    secured: bool = True,
) -> Nano:
    """Return what the request can cost with this worker.

    Raises `NoWorkerError` (its limits), `PriceTooHighError` or `InsufficientStakeError` (its stake).
    """
    what = f"{offer.address.to_str()} cannot do this"
    limit = offer.offer.max_output_tokens
    request = request.within(limit)
    if request.max_output_tokens > limit:
        raise NoWorkerError(
            what,
            why=f"it makes at most {limit} tokens, asked are {request.max_output_tokens}",
            hint="Lower max_output_tokens",
        )
    price = check_price(request, offer.terms, max_price)
    needed = collateral_of(price, params) if secured else Nano(0)
    if offer.lockable < needed:
        raise InsufficientStakeError(
            what,
            why=f"the job needs {needed} of collateral, it can lock {offer.lockable}",
            hint="Choose another worker, or split the job",
        )
    return price


def check_price(request: JobRequest, terms: Terms, max_price: Nano | None) -> Nano:
    """Return what the request can cost under `terms`. Raises `PriceTooHighError` above `max_price`."""
    price = request.max_price(terms)
    if max_price is not None and price > max_price:
        raise PriceTooHighError(
            f"the job can cost {price}",
            why=f"the maximum is {max_price}; counted are {request.max_input_tokens} tokens in "
            f"and {request.max_output_tokens * request.choices} out",
            hint="Raise max_price, lower max_output_tokens, or say max_input_tokens if you counted them",
        )
    return price


def collateral_of(price: Nano, params: m.Params, items: int = 1) -> Nano:
    """Return what a worker locks for a job with a challenge window."""
    bps = params.batch_collateral_bps if items >= c.BATCH_ITEMS else params.collateral_bps
    return Nano(max(params.min_collateral, -(-int(price) * bps // c.BASIS_POINTS)))


def plan_periods(
    price: Nano,
    params: m.Params,
    *,
    claim_s: int | None,
    work_s: int | None,
    window_s: int | None,
    directed: bool,
) -> Periods:
    """Fill in and check the periods of a job. Raises `BadPeriodsError`."""
    if window_s is None:
        window_s = LONG_WINDOW_S if price >= LONG_WINDOW_FROM else SHORT_WINDOW_S
        window_s = min(max(window_s, params.min_window), params.max_window)
    periods = Periods(
        DEFAULT_CLAIM_S if claim_s is None else claim_s,
        DEFAULT_WORK_S if work_s is None else work_s,
        window_s,
    )
    what = "the network does not allow these periods"
    if periods.claim_s < 1 or periods.work_s < 1 or periods.window_s < 0:
        raise BadPeriodsError(what, why="periods are positive")
    if window_s == 0 and not directed:
        raise BadPeriodsError(what, why="a job for any worker needs a window to challenge")
    if window_s != 0 and not params.min_window <= window_s <= params.max_window:
        raise BadPeriodsError(
            what, why=f"the window lies between {params.min_window} and {params.max_window} s"
        )
    phases = periods.claim_s + periods.work_s + periods.window_s
    if phases > params.max_phases:
        raise BadPeriodsError(what, why=f"together they are {phases} s, at most {params.max_phases} s")
    return periods
