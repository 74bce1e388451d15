"""The table of services: which build function makes each, and which adapters its ports get."""
