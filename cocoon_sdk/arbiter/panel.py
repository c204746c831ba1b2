"""From many votes to one verdict: what an arbiter does next, given all that is known to be signed.

Owns commit before reveal, the count of equal votes, the median, and whose signatures a verdict is sent with.
Pure; must not know evidence, keys, storage or transport.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cocoon_sdk.arbiter.rules import severity
from cocoon_sdk.arbiter.timetable import Timetable
from cocoon_sdk.protocol.disputes import Vote
from cocoon_sdk.types import Hash

Numbers: TypeAlias = tuple[int, int]
"""Pay and slash, in nanoTON."""


@dataclass(frozen=True, slots=True)
class Panel:
    """What is known of one dispute's arbiters by index; everything here was checked when it was taken.

    `commitments` hold every vote hash that an arbiter signed: more than one proves it dishonest. `late` are
    those that committed when our own vote was open already.
    """

    threshold: int
    commitments: Mapping[int, Collection[Hash]] = field(default_factory=dict)
    votes: Mapping[int, Vote] = field(default_factory=dict)
    verdicts: Mapping[int, Mapping[Numbers, bytes]] = field(default_factory=dict)
    late: Collection[int] = ()

    @property
    def honest(self) -> frozenset[int]:
        """Who committed to exactly one vote."""
        return frozenset(index for index, hashes in self.commitments.items() if len(hashes) == 1)

    def counted(self) -> dict[int, Numbers]:
        """Return the open votes that count, each with its numbers."""
        honest = self.honest
        return {
            index: vote.numbers
            for index, vote in self.votes.items()
            if index in honest and vote.digest() in self.commitments[index]
        }

    def may_open(self, now: int, times: Timetable) -> bool:
        """Tell whether our vote may be shown: k have committed, or nobody is waited for any longer."""
        return len(self.honest) >= self.threshold or now > times.commit_until

    def agreed(self, now: int, times: Timetable) -> Numbers | None:
        """Return the verdict, once there is one: k equal votes, or late in the dispute the median of k."""
        votes = list(self.counted().values())
        if len(votes) < self.threshold:
            return None
        (most, count), *_ = Counter(votes).most_common(1)
        if count >= self.threshold:
            return most
        if now <= times.median_from:
            return None
        # Of two in the middle the milder one: in doubt for the worker.
        return sorted(votes, key=severity)[(len(votes) - 1) // 2]

    def is_median(self, numbers: Numbers) -> bool:
        """Tell whether fewer than k voted for exactly this."""
        return sum(vote == numbers for vote in self.counted().values()) < self.threshold

    def signers(self, numbers: Numbers) -> list[int] | None:
        """Return whose k signatures to send, in ascending order; None while fewer have signed.

        First those that had committed in time to this very verdict: whoever copied, guessed or came round
        later is paid only if the verdict needs it.
        """
        votes = self.counted()
        there = [index for index, signed in self.verdicts.items() if numbers in signed]
        there.sort(key=lambda index: (votes.get(index) != numbers, index in self.late, index))
        chosen = there[: self.threshold]
        return sorted(chosen) if len(chosen) == self.threshold else None

    def complete(self) -> tuple[Numbers, list[int]] | None:
        """Return a verdict that k have signed, with its signers; None while there is none."""
        for numbers in sorted({each for signed in self.verdicts.values() for each in signed}):
            chosen = self.signers(numbers)
            if chosen is not None:
                return numbers, chosen
        return None
