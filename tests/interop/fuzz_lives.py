"""How hypothesis draws the lives of `fuzz_world`.

Owns the distributions: values around what a transaction costs, all sums of modes, times up to decades.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.interop.fuzz_world import (
    FUNDS,
    Action,
    Body,
    JettonMoves,
    Junk,
    Libraries,
    Mint,
    PuppetActs,
    Ruin,
    Sending,
    Step,
    Wait,
    WalletSends,
)
from tests.interop.programs import programs

# Values of every magnitude, and around what a transaction costs.
_values = st.one_of(
    st.sampled_from([0, 1, 40_000, 400_000, 1_000_000, 10**7, 10**8, 10**9, FUNDS, 10**18]),
    st.integers(0, 4 * 10**9),
    st.integers(0, 5_000_000),
)
# Every documented mode and all sums of flags; a mode beyond eight bits does not exist.
_modes = st.one_of(
    st.sampled_from([0, 1, 2, 3, 16, 17, 32, 64, 65, 66, 80, 128, 130, 160, 162, 176]),
    st.integers(0, 255),
)
_places = st.integers(0, 15)
_bodies = st.builds(Body, st.sampled_from([0, 0, 1, 1, 2, 3]), st.binary(max_size=40))
_sendings = st.builds(Sending, _places, _values, _modes, _bodies, st.booleans(), st.booleans())
_some_sendings = st.lists(_sendings, max_size=4).map(tuple)
_kinds = st.sampled_from([0, 1, 2, 3, 0, 1, 2, 3, 4, 4, 5, 6, 7])
_actions = st.lists(st.builds(Action, _kinds, _modes, _sendings), max_size=5).map(tuple)
_codes = st.one_of(st.just(0), st.just(0), st.integers(0, 0xFFFF))
_faults = st.sampled_from(["", "", "", "", "seqno", "signature", "expired"])
_seconds = st.one_of(
    st.integers(1, 3600), st.integers(1, 90 * 86_400), st.integers(86_400 * 365, 86_400 * 365 * 40)
)

steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(WalletSends, st.integers(0, 5), _some_sendings, _faults),
    st.builds(WalletSends, st.integers(0, 5), _some_sendings, _faults),
    st.builds(Mint, _places, _places, _values, _bodies, st.booleans(), st.booleans(), st.booleans()),
    st.builds(
        PuppetActs,
        st.integers(0, 3),
        _actions,
        st.just(b""),
        _codes,
        _codes,
        st.none() | _values,
        st.booleans(),
        st.sampled_from([0, 0, 0, 30, 300]),
        st.booleans(),
    ),
    st.builds(PuppetActs, st.integers(0, 3), st.just(()), programs, value=st.none() | _values),
    st.builds(PuppetActs, st.integers(0, 3), st.just(()), programs, value=st.just(10**9)),
    st.builds(JettonMoves, _places, _places, _places, st.integers(0, 10**6), _values, _values, st.booleans()),
    st.builds(Wait, _seconds),
    st.builds(Libraries, st.booleans()),
    st.builds(Junk, _places, _bodies, st.booleans()),
    st.builds(
        Ruin,
        st.integers(0, 3),
        st.sampled_from([0, 20, 300]),
        st.sampled_from([0, 10**6, 10**8]),
        _seconds,
        st.integers(0, 3),
        _values,
    ),
)
# Three lists, since one would be short on average and a minimum length could not be shrunk away.
lives: st.SearchStrategy[list[Step]] = st.tuples(*[st.lists(steps, max_size=12)] * 3).map(
    lambda parts: [step for part in parts for step in part]
)
