"""Mergeable summaries of tables and the distances between them: numpy and datasketches, nothing of a service.

A `Profile` is folded from columns chunk by chunk, in constant memory, and profiles add up: `a.merge(b)` is what
folding both tables into one profile gives. Rule: nothing here knows where tables come from or what is done about
a difference between two of them.
"""

from vedette.profiles.bins import Bins
from vedette.profiles.categories import Categories
from vedette.profiles.column import ColumnProfile
from vedette.profiles.distinct import Distinct
from vedette.profiles.layout import ColumnLayout, Layout
from vedette.profiles.moments import Moments
from vedette.profiles.profile import Columns, Profile
from vedette.profiles.quantiles import Quantiles
from vedette.profiles.sample import RowSample

__all__ = [
    "Bins",
    "Categories",
    "ColumnLayout",
    "ColumnProfile",
    "Columns",
    "Distinct",
    "Layout",
    "Moments",
    "Profile",
    "Quantiles",
    "RowSample",
]
