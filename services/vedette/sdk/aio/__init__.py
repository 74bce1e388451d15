"""The client for asyncio, written by hand; `vedette.sdk.sync` is generated from these files."""
