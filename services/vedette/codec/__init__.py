"""Tensors to and from bytes: V2 JSON, binary, CSV, JSON Lines, npy.

Rule: one format a file; no server, no model; every decoder treats its bytes as hostile.
"""
