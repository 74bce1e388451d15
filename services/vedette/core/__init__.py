"""The shared kernel: what every service and the SDK mean by the same words.

Rule: standard library and numpy only, no I/O, no framework, at most 1,200 lines in all.
"""
