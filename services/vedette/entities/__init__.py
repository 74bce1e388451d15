"""Nouns of one service and of those who talk to it: monitors and alerts.

Rule: like the kernel, plain immutable values on the standard library alone; see ADR 0019.
"""
