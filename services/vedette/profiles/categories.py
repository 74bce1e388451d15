"""How often each value of a text column occurs, in bounded memory.

Rule: known categories (the baseline's) are always counted exactly. Of the others up to `limit` are kept; while no
more than that occur, every count is exact and order does not matter. Beyond it the rest goes to `other` by the
Misra-Gries rule: a count kept is too low by at most (rows of unknown categories) / (limit + 1), and so is every
category that is not kept, in any order of folding and merging. Source: Agarwal et al., "Mergeable summaries", 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vedette.core.errors import InvalidArgument

LIMIT = 1000


@dataclass(slots=True)
class Categories:
    """Counts by category, and `other` for what is counted under no name."""

    known: dict[str, int] = field(default_factory=dict)
    """The baseline's categories, zero when they do not occur."""
    fresh: dict[str, int] = field(default_factory=dict)
    other: int = 0
    limit: int = LIMIT

    @property
    def counts(self) -> dict[str, int]:
        """The categories that occur, most frequent first; ties by name."""
        both = [(name, count) for name, count in (*self.known.items(), *self.fresh.items()) if count]
        return dict(sorted(both, key=lambda pair: (-pair[1], pair[0])))

    @property
    def total(self) -> int:
        """Values counted, under a name or not."""
        return sum(self.known.values()) + sum(self.fresh.values()) + self.other

    def fold(self, counts: Mapping[str, int]) -> None:
        """Add the counts of some rows."""
        for name, count in counts.items():
            if name in self.known:
                self.known[name] += count
            else:
                self.fresh[name] = self.fresh.get(name, 0) + count
        self._cut()

    def merge(self, other: Categories) -> Categories:
        """Both together; InvalidArgument when their known categories or limits differ."""
        if self.known.keys() != other.known.keys() or self.limit != other.limit:
            raise InvalidArgument("counts of categories with different layouts cannot be merged")
        merged = Categories(dict(self.known), dict(self.fresh), self.other + other.other, self.limit)
        merged.fold({**other.known, **other.fresh})
        return merged

    def _cut(self) -> None:
        if len(self.fresh) <= self.limit:
            return
        ranked = sorted(self.fresh.values(), reverse=True)
        cut, before = ranked[self.limit], sum(ranked)
        self.fresh = {name: count - cut for name, count in self.fresh.items() if count > cut}
        self.other += before - sum(self.fresh.values())
