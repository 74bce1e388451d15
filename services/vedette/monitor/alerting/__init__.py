"""Alerts and who is told: the state machine, groups, the outbox, the sender and where it may send."""
