"""`JobSearch`: how a job was opened and what was submitted for it, found in one walk that can be cut off.

Owns where the walk stands and when there is nothing more to look for. Must not know keys, contents or who
asks. Whoever fills an account's history only makes the walk longer: it goes on where it stood, as far down as
the job can be old, and others have their turn in between.
"""

from __future__ import annotations

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history.lookup import (
    OpenedJob,
    SubmittedResult,
    is_below,
    opening_in,
    submission_in,
    submitted_by,
)
from cocoon_sdk.history.transactions import DecodedTransaction, decode_transaction
from cocoon_sdk.history.walking import FIRST_PAGE, LARGE_PAGE, MAX_SEARCH, HistoryNotFoundError, walk
from cocoon_sdk.protocol import messages as m


class JobSearch:
    """One search, from the newest transaction down; `advance` until it is true, then look at what it found.

    `since` is the earliest unix second at which the job can have been opened; the submission is the one with
    `result_hash`.
    """

    def __init__(self, chain: Chain, escrow: Address, job_id: int, result_hash: bytes, *, since: int) -> None:
        self._chain, self._escrow, self._job_id = chain, escrow, job_id
        self._result_hash, self._since = int.from_bytes(result_hash, "big"), since
        self._before: int | None = None
        self._opened: OpenedJob | None = None
        self._submitted, self._result = False, None
        self.seen = 0
        """Transactions that were looked at."""

    @property
    def payload(self) -> Cell | None:
        """The payload's data cell: what the client put beside the job."""
        return None if self._opened is None else self._opened.data

    @property
    def result(self) -> Cell | None:
        """The result's data cell; None also when the worker's own transaction cannot be read."""
        return self._result

    async def advance(self, pages: int) -> bool:
        """Look at so many pages more; true when both were found.

        Raises `HistoryNotFoundError` when the walk ended without them, and other `ChainError`s of the
        endpoint: then the next call goes on.
        """
        for _ in range(pages):
            if self._opened is not None:
                return True
            page = await self._chain.transactions(
                self._escrow, limit=LARGE_PAGE if self.seen else FIRST_PAGE, before_lt=self._before
            )
            for record in page:
                if record.now < self._since:
                    raise self._missing("the endpoint shows nothing of it in the time that a job lives")
                try:
                    transaction = decode_transaction(record)
                except MalformedError:
                    continue  # not made by one of our contracts' messages
                if await self._look_at(transaction):
                    return True
            self.seen += len(page)
            if not page or page[-1].prev_lt == 0 or self.seen >= MAX_SEARCH:
                raise self._missing(f"it is not among the newest {self.seen} transactions")
            self._before = page[-1].lt
        return False

    async def _look_at(self, transaction: DecodedTransaction) -> bool:
        """Take what a transaction shows of the job; true when that was its opening."""
        if not self._submitted:
            submission = submission_in(transaction, self._job_id)
            if submission is not None and submission.result_hash == self._result_hash:
                self._result = await self._data(transaction, submission)
                self._submitted = True
        opened = opening_in(transaction, self._job_id)
        if opened is not None and not self._submitted:
            raise self._missing("no submission reached the escrow")
        if opened is None and is_below(transaction, self._job_id):
            raise self._missing("an older job was opened after it")
        self._opened = opened
        return opened is not None

    async def _data(
        self, transaction: DecodedTransaction, submission: m.Submit | m.SubmitClaimed
    ) -> Cell | None:
        try:
            return (await self._origin(transaction, submission)).data
        except MalformedError:
            return None  # what cannot be read was not delivered: its worker must not gain from that

    async def _origin(
        self, transaction: DecodedTransaction, submission: m.Submit | m.SubmitClaimed
    ) -> SubmittedResult:
        try:
            return await submitted_by(self._chain, transaction, submission)
        except HistoryNotFoundError:
            raise
        except ChainError:
            message = transaction.in_message
            assert message is not None
            assert message.src is not None
            # Endpoints that know transactions by their links only reach so far in one step, and a worker can
            # fill its own history: step by step they get there.
            async for _ in walk(self._chain, message.src, after_lt=message.created_lt, limit=MAX_SEARCH):
                pass
            return await submitted_by(self._chain, transaction, submission)

    def _missing(self, why: str) -> HistoryNotFoundError:
        return HistoryNotFoundError(
            f"job {self._job_id} of {self._escrow.to_str()}",
            why=why,
            hint="The endpoint may lag or have dropped old history: try again, or use another one",
        )
