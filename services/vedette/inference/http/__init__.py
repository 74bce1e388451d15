"""HTTP routes of the data plane: one file per protocol family.

Rule: parse, call, render. No rule of the domain.
"""
