"""`JobSearch`: how a job was opened and what was submitted for it, found in one search that can be cut off.

Owns where the search stands and when there is nothing more to look for. Must not know keys, contents or who
asks. Whoever fills an account's history only makes the search longer: it goes on where it stood, as far down
as the job can be old, and others have their turn in between.

There may be many that wait. So a search holds names of transactions and no content, which may be large and is
read last; and a step costs one page, whatever others read in between, because each page is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain, Link, TransactionRecord
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history.lookup import OpenedJob, is_below, opening_in, result_data_in, submission_in
from cocoon_sdk.history.transactions import DecodedTransaction, decode_transaction
from cocoon_sdk.history.walking import FIRST_PAGE, LARGE_PAGE, MAX_SEARCH, HistoryNotFoundError

MAX_FAILURES: Final = 8
"""Steps that fail in a row before the search begins again: an endpoint that once showed a history that is
none knows no transaction by that name. Arbiters pause longer and longer between them, an hour in all: an
endpoint that is away for a while costs no search its place."""


@dataclass(slots=True)
class _Way:
    """How far down the history of an account was read."""

    account: Address
    next: Link | None = None
    """The newest that was not looked at; None: nothing was."""
    seen: int = 0

    @property
    def has_end(self) -> bool:
        """Whether nothing more is to be read."""
        return self.seen >= MAX_SEARCH or (self.next is not None and self.next[0] == 0)

    async def page(self, chain: Chain) -> list[TransactionRecord]:
        """Return what comes next. Raises what `Chain.transactions` raises: then it is asked for again."""
        return await chain.transactions(
            self.account, limit=LARGE_PAGE if self.seen else FIRST_PAGE, start=self.next
        )

    def went(self, page: list[TransactionRecord]) -> None:
        """Go on below a page."""
        self.seen += len(page)
        self.next = page[-1].previous if page else (0, bytes(32))


@dataclass(frozen=True, slots=True)
class _Sent:
    """A submission that reached the escrow: when its message was made (lt), and the way to who sent it."""

    created_lt: int
    way: _Way


class JobSearch:
    """One search, from the newest transaction down; `advance` until it is true, then look at what it found.

    `since` is the earliest unix second at which the job can have been opened; the submission is the one with
    `result_hash`.
    """

    def __init__(self, chain: Chain, escrow: Address, job_id: int, result_hash: bytes, *, since: int) -> None:
        self._chain, self._escrow, self._job_id = chain, escrow, job_id
        self._result_hash, self._since = int.from_bytes(result_hash, "big"), since
        self._begin()
        self._failures = 0
        self._payload: Cell | None = None
        self._result: Cell | None = None
        self._is_found = False

    def _begin(self) -> None:
        self._way = _Way(self._escrow)
        self._sent: _Sent | None = None
        self._opening: Link | None = None

    @property
    def seen(self) -> int:
        """Transactions that were looked at, of both accounts."""
        return self._way.seen + (0 if self._sent is None else self._sent.way.seen)

    @property
    def payload(self) -> Cell | None:
        """The payload's data cell: what the client put beside the job."""
        return self._payload

    @property
    def result(self) -> Cell | None:
        """The result's data cell; None also when the worker's own transaction cannot be read."""
        return self._result

    async def advance(self, pages: int) -> bool:
        """Look at so many pages more; true when both were found.

        Raises `HistoryNotFoundError` when it ended without them, and only a new search may find them; and
        other `ChainError`s of the endpoint: then the next call goes on, or begins again after many.
        """
        for _ in range(pages):
            if self._is_found:
                return True
            try:
                await self._step()
            except HistoryNotFoundError:
                raise
            except ChainError:
                self._failures += 1
                if self._failures % MAX_FAILURES == 0:
                    self._begin()
                raise
            self._failures = 0
        return self._is_found

    async def _step(self) -> None:
        if self._opening is None or self._sent is None:
            await self._look_at_escrow()
        else:
            await self._look_at_worker(self._sent, self._opening)

    # -- the escrow's history ------------------------------------------------------------------------------

    async def _look_at_escrow(self) -> None:
        page = await self._way.page(self._chain)
        for record in page:
            if record.now < self._since:
                raise self._missing("the endpoint shows nothing of it in the time that a job lives")
            try:
                transaction = decode_transaction(record)
            except MalformedError:
                continue  # not made by one of our contracts' messages
            if self._look_at(transaction) is not None:
                self._opening = record.link
                return
        self._go_on(self._way, page)

    def _look_at(self, transaction: DecodedTransaction) -> OpenedJob | None:
        """Take what a transaction shows of the job; return its opening if it is that."""
        message = transaction.in_message
        if self._sent is None and message is not None and message.src is not None:
            submission = submission_in(transaction, self._job_id)
            if submission is not None and submission.result_hash == self._result_hash:
                self._sent = _Sent(message.created_lt, _Way(message.src))
        opened = opening_in(transaction, self._job_id)
        if opened is not None and self._sent is None:
            raise self._missing("no submission reached the escrow")
        if opened is None and is_below(transaction, self._job_id):
            raise self._missing("an older job was opened after it")
        return opened

    # -- the worker's own history --------------------------------------------------------------------------

    async def _look_at_worker(self, sent: _Sent, opening: Link) -> None:
        """Look for the transaction that sent the submission: the newest before it. Then read both."""
        page = await sent.way.page(self._chain)
        sender = next((record for record in page if record.lt < sent.created_lt), None)
        if sender is None:
            self._go_on(sent.way, page)
            return
        result = self._submitted(sender, sent)
        self._payload = await self._opened(opening)
        self._result, self._is_found = result, True

    def _submitted(self, record: TransactionRecord, sent: _Sent) -> Cell | None:
        try:
            transaction = decode_transaction(record)
        except MalformedError:
            return None  # what cannot be read was not delivered: its worker must not gain from that
        if all(message.created_lt != sent.created_lt for message in transaction.out_messages):
            raise self._missing("the endpoint does not show the transaction that sent the submission")
        return result_data_in(transaction, self._job_id, self._result_hash)

    async def _opened(self, link: Link) -> Cell | None:
        found = await self._chain.transactions(self._escrow, limit=1, start=link)
        opened = opening_in(decode_transaction(found[0]), self._job_id) if found else None
        if opened is None:
            raise self._missing("the endpoint does not show its opening any more")
        return opened.data

    # -- the end -------------------------------------------------------------------------------------------

    def _go_on(self, way: _Way, page: list[TransactionRecord]) -> None:
        way.went(page)
        if way.has_end:
            raise self._missing(f"nothing of it is among the newest {way.seen} of {way.account.to_str()}")

    def _missing(self, why: str) -> HistoryNotFoundError:
        return HistoryNotFoundError(
            f"job {self._job_id} of {self._escrow.to_str()}",
            why=why,
            hint="The endpoint may lag or have dropped old history: try again, or use another one",
        )
