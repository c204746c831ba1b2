"""Accounts and get-methods, at any block, with proofs.

Owns which block's state is looked at: an account of the basechain asked for at a masterchain block is that of
the basechain block it committed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cocoon_sdk.errors import AccountNotFoundError, MalformedError
from cocoon_sdk.sandbox.blocks import Block, MasterBlock, account_proof, shard_proof
from cocoon_sdk.sandbox.blocks.cells import to_boc
from cocoon_sdk.sandbox.blocks.merkle import Cut
from cocoon_sdk.sandbox.cells import NativeCell
from cocoon_sdk.sandbox.errors import StackError
from cocoon_sdk.sandbox.liteserver.errors import QueryError
from cocoon_sdk.sandbox.liteserver.getter_context import context_boc
from cocoon_sdk.sandbox.liteserver.ids import (
    BASECHAIN,
    MASTERCHAIN,
    NEWEST,
    NO_BLOCK,
    Answer,
    account_key,
    find,
    tl_id,
)
from cocoon_sdk.sandbox.liteserver.tl import Record
from cocoon_sdk.sandbox.node import Node

GETTER_GAS_LIMIT = 300_000
"""Gas that TON's liteservers give a get-method."""
MAX_PARAMS_BYTES = 1 << 16
NO_CODE = -256
"""Exit code for an account without code."""
_WITH_PROOF, _WITH_STATE, _WITH_RESULT, _WITH_CONTEXT, _WITH_LIBRARIES, _WITH_CONFIG = (
    1 << bit for bit in range(6)
)


@dataclass(frozen=True, slots=True)
class _Found:
    """An account at a block: the block asked for, the one whose state has it, both proofs, and the root."""

    reference: Block
    holder: Block | None
    shard_proof: bytes
    proof: bytes
    account: NativeCell | None

    def ids(self) -> Record:
        holder = NO_BLOCK if self.holder is None else self.holder.id
        return {"id": tl_id(self.reference.id), "shardblk": tl_id(holder)}


def _find_account(node: Node, query: Record) -> _Found:
    wanted, account = query["id"], query["account"]
    workchain = account["workchain"]
    reference: Block
    if wanted["workchain"] == MASTERCHAIN and wanted["seqno"] == NEWEST:
        reference = node.head
    elif wanted["workchain"] not in (MASTERCHAIN, workchain):
        raise QueryError("reference block for a getAccountState() must belong to the masterchain")
    else:
        reference = find(node.archive, wanted)
    key = account_key(account)
    if workchain == reference.workchain:
        proof, cell = account_proof(reference, key)
        return _Found(reference, reference, b"", proof, cell)
    assert isinstance(reference, MasterBlock)
    holder = reference.shard_block
    if workchain != BASECHAIN:  # a workchain that does not exist has no accounts, and the shards prove it
        return _Found(reference, None, shard_proof(reference), b"", None)
    proof, cell = account_proof(holder, key)
    return _Found(reference, holder, shard_proof(reference), proof, cell)


def get_account_state(node: Node, query: Record) -> Answer:
    """Answer with an account and the proof that it is so at that block."""
    found = _find_account(node, query)
    state = b"" if found.account is None else to_boc(found.account)
    return "accountState", _state_answer(found, state)


def get_account_state_pruned(node: Node, query: Record) -> Answer:
    """Answer with an account's header: balance and status, but neither code nor data."""
    found = _find_account(node, query)
    state = b"" if found.account is None else to_boc(Cut().proof(found.account))
    return "accountState", _state_answer(found, state)


def _state_answer(found: _Found, state: bytes) -> Record:
    return {**found.ids(), "shard_proof": found.shard_proof, "proof": found.proof, "state": state}


def run_smc_method(node: Node, query: Record) -> Answer:
    """Run a get-method on an account as it was at that block; the mode says what to answer with."""
    mode, params = query["mode"], query["params"]
    if len(params) >= MAX_PARAMS_BYTES:
        raise QueryError("more than 64k parameter bytes passed")
    if mode & ~0x3F:
        raise QueryError("unsupported mode in runSmcMethod")
    found = _find_account(node, query)
    answer = {
        "mode": mode,
        **found.ids(),
        "shard_proof": found.shard_proof,
        "proof": found.proof,
        "state_proof": b"",
        "init_c7": b"",
        "lib_extras": b"",
        "exit_code": NO_CODE,
        "result": b"",
    }
    if found.account is not None and mode & _WITH_STATE:
        answer["state_proof"] = to_boc(Cut().keep(found.account).proof(found.account))
    if found.account is None or found.holder is None:
        return "runMethodResult", answer
    key = account_key(query["account"])
    try:
        run = node.run_getter(
            key, query["method_id"], params or (), block=found.holder, gas_limit=GETTER_GAS_LIMIT
        )
        answer["exit_code"] = run.exit_code
        if mode & _WITH_RESULT:
            answer["result"] = run.boc()
    except AccountNotFoundError:
        return "runMethodResult", answer
    except MalformedError as error:
        raise QueryError(f"cannot deserialize parameter list boc: {error.why}") from error
    except StackError as error:
        raise QueryError(f"cannot serialize resulting stack: {error.why}") from error
    if mode & _WITH_CONTEXT:
        answer["init_c7"] = context_boc(
            node, found.holder, key, run.account, extended=bool(mode & _WITH_CONFIG)
        )
    return "runMethodResult", answer
