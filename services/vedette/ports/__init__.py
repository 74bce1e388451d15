"""The stores of single services, as protocols: what only one service needs stands here and not in the kernel.

Rule: ports that several services share are in `core.ports`; adapters are in `storage`.
"""
