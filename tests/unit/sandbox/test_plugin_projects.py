"""The pytest plugin in other people's projects, each a fresh pytest in a process of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

WARNINGS = ("-W", "error", "-W", "ignore:The configuration option:pytest.PytestDeprecationWarning")
"""What pytest-asyncio says of a project that set no loop scope is not ours."""

SERVED = """
import json
import urllib.request

import pytest

AT = 1_900_000_000


def head(url):
    with urllib.request.urlopen(url + "/getMasterchainInfo") as answer:
        return json.load(answer)["result"]["last"]["seqno"]


def test_servers_answer(sandbox, toncenter_url, liteserver_config, liteserver_config_path, actor):
    assert head(toncenter_url) == sandbox.head.seqno
    assert json.loads(liteserver_config_path.read_text()) == liteserver_config
    alice, bob = actor("alice"), actor("bob", 10**9, mnemonic=True)
    assert (alice.mnemonic, len(bob.mnemonic)) == (None, 24)
    before = head(toncenter_url)
    assert alice.send(bob.address, 10**9)[0].success
    assert head(toncenter_url) == before + 1
    assert 19 * 10**8 < bob.balance < 2 * 10**9


@pytest.mark.sandbox(now=AT, block_time=0.05)
def test_marker_is_obeyed(sandbox, actor):
    assert sandbox.now == AT
    assert sandbox.warp(60).gen_utime == AT + 60
    seqno = sandbox.head.seqno
    assert sandbox.run(lambda node: node.wait_seqno(seqno + 2, 30)).seqno >= seqno + 2


def test_each_test_is_fresh(sandbox):
    assert sandbox.transactions() == []
"""

ASYNC = """
import aiohttp
import pytest


@pytest.mark.asyncio
@pytest.mark.sandbox(now=1_900_000_000)
async def test_host_lives_on_the_loop_of_the_test(sandbox_host, blockchain):
    alice = blockchain.actor("alice")
    await sandbox_host.node.faucet(alice.address, 5)
    assert sandbox_host.node.now == 1_900_000_000
    async with aiohttp.ClientSession() as session:
        url = f"{sandbox_host.endpoint}/getAddressBalance?address={alice.address.to_str()}"
        async with session.get(url) as answer:
            assert int((await answer.json())["result"]) == blockchain.balance(alice.address)


@pytest.mark.asyncio
async def test_thread_answers_a_test_with_a_loop(sandbox, toncenter_url):
    url = f"{toncenter_url}/getMasterchainInfo"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert (await answer.json())["ok"]
    assert sandbox.mine(3).seqno == sandbox.head.seqno
"""

SHARED = """
import pytest


@pytest.fixture(scope="module")
def rich(module_sandbox):
    return module_sandbox.actor("rich")


@pytest.fixture
def sandbox(module_sandbox, rich):
    with module_sandbox.isolated() as sandbox:
        yield sandbox


@pytest.mark.parametrize("number", range(3))
def test_of_a_module(sandbox, rich, toncenter_url, session_sandbox, number):
    before, seqno = rich.balance, sandbox.head.seqno
    with sandbox.isolated():
        rich.send(rich.address, 1)
        assert rich.balance < before
    assert (rich.balance, sandbox.head.seqno) == (before, seqno)
    rich.send(rich.address, 1)
    assert len(sandbox.transactions(limit=100)) == len(sandbox.transactions(rich.address, limit=100))
    assert seqno < 10
    assert session_sandbox.endpoint != toncenter_url
"""

FAILING = """
import pytest


@pytest.fixture(autouse=True)
def mark(request):
    yield


def test_served(actor):
    alice = actor("alice")
    alice.send(actor("bob").address, 10**9)
    assert alice.balance == 0, "on purpose"


def test_alone(blockchain):
    blockchain.actor("carol").send(blockchain.actor("dave").address, 10**9)
    assert False, "on purpose"


def test_without_a_chain():
    assert False, "on purpose"


def test_of_two_chains(blockchain, sandbox):
    pass


@pytest.mark.sandbox(when=5)
def test_typing_mistake(sandbox):
    pass


def test_fine(actor):
    actor("erin")
"""


def test_project_can_use_servers_from_synchronous_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVED)
    pytester.runpytest_subprocess("--strict-markers", *WARNINGS).assert_outcomes(passed=3)


def test_project_can_use_servers_from_asynchronous_tests_when_asyncio_is_strict(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(ASYNC)
    run = pytester.runpytest_subprocess("--strict-markers", *WARNINGS, "-o", "asyncio_mode=strict")
    run.assert_outcomes(passed=2)


def test_project_can_share_a_sandbox_over_a_module_and_in_parallel(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_one=SHARED, test_two=SHARED)
    pytester.runpytest_subprocess("-n", "2", *WARNINGS).assert_outcomes(passed=6)


def test_project_can_see_what_happened_when_a_test_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILING)
    run = pytester.runpytest_subprocess(*WARNINGS)
    run.assert_outcomes(failed=3, errors=2, passed=1)
    run.stdout.fnmatch_lines_random(
        [
            "*sandbox: newest transactions*",
            "*alice -> bob*ok*",
            "*blockchain: newest transactions*",
            "*carol -> dave*ok*",
            "*`blockchain` and `sandbox` are two chains*",
            "*@pytest.mark.sandbox takes now, block_time, follow_clock, config by name, not*when*",
        ]
    )
    assert run.stdout.str().count("newest transactions") == 2
    quiet = pytester.runpytest_subprocess("--sandbox-trace=0", "-k", "served or alone")
    assert "newest transactions" not in quiet.stdout.str()


def test_project_can_use_the_plugin_without_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(blockchain):\n    assert blockchain.actor('a').balance == 10**12\n")
    pytester.runpytest_subprocess("-p", "no:asyncio", *WARNINGS).assert_outcomes(passed=1)


def test_project_is_told_when_a_file_of_names_is_missing(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nsandbox_abi = build/*.abi.json\n")
    pytester.makepyfile("def test_one(sandbox_names):\n    pass\n")
    run = pytester.runpytest_subprocess()
    run.assert_outcomes(errors=1)
    run.stdout.fnmatch_lines(["*sandbox_abi: no file matches 'build/[*].abi.json' below*"])
