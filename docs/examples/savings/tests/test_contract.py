"""The contract alone: no servers, no blocks, thousands of transactions a second."""

import pytest
from savings import state_init, withdraw

TON = 10**9
DAY_S = 24 * 60 * 60


@pytest.fixture
def alice(blockchain):
    return blockchain.actor("alice")


@pytest.fixture
def savings(blockchain, alice):
    init = state_init(alice.address, opens_at=blockchain.now + DAY_S)
    return blockchain.deploy(init.serialize(), 5 * TON)


def test_owner_can_withdraw_after_a_day(blockchain, alice, savings):
    blockchain.warp(DAY_S)
    before = alice.balance
    transactions = alice.send(savings, TON // 10, withdraw(3 * TON))
    assert all(each.success for each in transactions)
    assert alice.balance > before + 2 * TON


def test_owner_cannot_withdraw_before(blockchain, alice, savings, sandbox_names):
    refused = alice.send(savings, TON // 10, withdraw(3 * TON))[1]
    assert sandbox_names.exit_code(refused.exit_code) == "StillClosed (8486)"
    assert blockchain.balance(savings) > 4 * TON


def test_thief_cannot_withdraw(blockchain, savings, sandbox_names):
    blockchain.warp(DAY_S)
    refused = blockchain.actor("thief").send(savings, TON // 10, withdraw(3 * TON))[1]
    assert sandbox_names.exit_code(refused.exit_code) == "NotOwner (63224)"
