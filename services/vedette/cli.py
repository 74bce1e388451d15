"""The `vedette` command."""


def main() -> None:
    """Run the command line."""
