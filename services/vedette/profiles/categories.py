"""How often each value of a text column occurs, in bounded memory.

Rule: known categories (the baseline's) are always counted exactly, in any order. Of the others up to `limit` are
kept. While no more than that occur, every count is exact and any order of folding and merging gives the same. Beyond
it, counts are lowered together until `limit` are left, and what they lose goes to `other`: then a category's count
is too low by at most `slack`, never too high; one that is not listed occurred at most `slack` times; the total stays
exact. This holds in any order, though the counts themselves may differ. Source: Misra and Gries, 1982; Agarwal,
Cormode, Huang, Phillips, Wei and Yi, "Mergeable summaries", 2012.
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
    """Those that the baseline does not know; all of them when there is no baseline."""
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

    @property
    def slack(self) -> int:
        """By how much at most the count of a category that is not known is too low."""
        return self.other // (self.limit + 1)

    def fold(self, counts: Mapping[str, int]) -> None:
        """Add the counts of some rows."""
        known, fresh = self.known, self.fresh
        for name, count in counts.items():
            if name in known:
                known[name] += count
            else:
                fresh[name] = fresh.get(name, 0) + count
        if len(fresh) > self.limit:
            self._cut()

    def merge(self, other: Categories) -> Categories:
        """Both together; InvalidArgument when their known categories or limits differ."""
        if self.known.keys() != other.known.keys() or self.limit != other.limit:
            raise InvalidArgument("counts of categories with different layouts cannot be merged")
        merged = Categories(dict(self.known), dict(self.fresh), self.other + other.other, self.limit)
        merged.fold({**other.known, **other.fresh})
        return merged

    def _cut(self) -> None:
        """Lower all counts by the largest one that must go; at least limit + 1 lose that much."""
        ranked = sorted(self.fresh.values(), reverse=True)
        cut = ranked[self.limit]
        self.fresh = {name: count - cut for name, count in self.fresh.items() if count > cut}
        self.other += sum(ranked) - sum(self.fresh.values())
