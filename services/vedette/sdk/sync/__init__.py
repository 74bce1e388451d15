# Generated from vedette/sdk/aio by `python -m tests.sdk_twin`: change that and run it again.
"""The client for time, written by hand; `vedette.sdk.sync` is generated from these files."""
