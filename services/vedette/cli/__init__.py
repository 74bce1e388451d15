"""The `vedette` command.

Rule: `--help` answers at once: a command imports what it needs when it runs. What people read goes to
standard output, what went wrong to standard error; 2 is a wrong command line, 1 a failure.
"""

from __future__ import annotations

from vedette.cli.application import app


def main() -> None:
    """Run the command line and exit."""
    app(prog_name="vedette")


__all__ = ["app", "main"]
