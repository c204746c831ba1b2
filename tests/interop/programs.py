"""Random TVM programs, made of instructions that mostly mean something where they stand.

Owns the choice of instructions and how hypothesis draws programs. Knows nothing of chains.

Left out are the instructions of global version 12, which our engine (version 11) does not know: a program
that contains one would end with exit code 6 here and run there. `test_differential` pins that difference.
"""

from __future__ import annotations

from hypothesis import strategies as st

VERSION_12 = ("cf50", "f916", "fa48", "fa49", *(f"fa5{digit}" for digit in range(6)))
"""BTOS, HASHBU, LDSTDADDR(Q), LDOPTSTDADDR(Q), STSTDADDR(Q), STOPTSTDADDR(Q), as hexadecimal text."""


def _table(text: str) -> list[str]:
    return text.split()


_PUSH = _table("""
    70 71 72 73 74 75 76 77 78 79 7a 7b 7c 7d 7e 7f 8100ff 8101f4 82100123456789abcdef 83ff 84ff 6d
    7f
""")
_STACK = _table("""
    20 21 22 23 01 02 12 30 31 32 58 5b 5a 5521 67 68 69
""")
_ARITHMETIC = _table("""
    a0 a1 a8 a904 a908 a90c a9840c a984 a985 aa07 ab07 ac ad a3 a4 a5 a6ff a7fe b60b b6 b600 b0 b1
    b2 b3 b4ff b5ff b601 b602
""")
_COMPARE = _table("""
    b8 b9 ba bc bb bd be bf c0ff c101 c202 c303 c7 c700 c701
""")
_CELLS = _table("""
    c8 c9 cb1f ca1f cc cd ce cf cf16 cf31 d0 d1 d31f d21f d4 d5 d6ff d70b1f d718 d739 d73a d741 d742
    d743 d745 d746 d747 d749 d74a d74b d764 d765 d766 d767 d768 d76a d76e fa00 fa02 fa40 fa41 fa42
    fa44
""")
_DICTIONARIES = _table("""
    6d f412 f413 f415 f416 f417 f40a f40b f40e f443 f444 f455 f456 f459 f45b f474 f475 f482 f48a
    f492 f404 f405
""")
_HASHES = _table("""
    f900 f901 f902 f90400 f90401 f90402 f90403 f90404 f90600 f910 f911 f912 f913 f914 f915 f920 f921
    f922 f923 f926 f93000 f93010 f93011 f93018 f93019
""")
_SURROUNDINGS = _table("""
    f800 f801 f806 f807 f80f f810 f811 f814 f815 f820 f823 f824 f825 f826 f827 f828 f829 f82a f82b
    f82c f82e f82f f830 f832 f833 f835 f836 f837 f838 f839 f83a f83b f83c f840 f841 f860 f881ff
    f88111 f890 f891 f892 f893 f894 f895 f896 f897 f898 f899 f940 f941 f942 f943
""")
_TUPLES = _table("""
    6f00 6f01 6f02 6f03 6f10 6f11 6f22 6f23 6f7c 6f80 6f88 6f89 6f8a 6fa0 6fa1 6f8d
""")
_CONTROL = _table("""
    9101 9171 920020 9320f800 d8 d9 db30 db31 dc dd de df e0 e1 e2 e304 e4 e5 e6 e8 ea eb ec01 ed1e
    ed44 ed45 ed47 ed54 ed10 ed11 ede5 ede4 edf0 edf1 f220 f23f f2c101 f2f0 f2f1 f2f2 f2ff f000 f102
    db4000 db50
""")
_ACTIONS = _table("""
    fb00 fb02 fb03 fb04 fb06 fb07 fb08 c8c9 c8cf8508 c8821005f5e100fa02c9
""")

_instructions = st.one_of(
    st.sampled_from(_PUSH),
    st.sampled_from(_PUSH),
    st.sampled_from(_STACK),
    st.sampled_from(_ARITHMETIC),
    st.sampled_from(_COMPARE),
    st.sampled_from(_CELLS),
    st.sampled_from(_DICTIONARIES),
    st.sampled_from(_HASHES),
    st.sampled_from(_SURROUNDINGS),
    st.sampled_from(_TUPLES),
    st.sampled_from(_CONTROL),
    st.sampled_from(_ACTIONS),
    st.binary(min_size=1, max_size=3).map(bytes.hex),
)


def _known_to_version_11(text: str) -> bool:
    return not any(opcode in text for opcode in VERSION_12)


# Something of every type to start with: integers, an empty cell, slice and builder, null, a dictionary.
_START = "7f8101f4c8c9c8c9d0c86d71c8c9d0766d58588100ff"

programs: st.SearchStrategy[bytes] = (
    st.tuples(st.sampled_from(["", _START]), *[st.lists(_instructions, max_size=10).map("".join)] * 3)
    .map(lambda parts: "".join(parts)[:240])
    .filter(_known_to_version_11)
    .map(bytes.fromhex)
)
