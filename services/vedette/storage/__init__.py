"""Adapters behind the ports of `vedette.core.ports` and of the services, one backend a file."""
