"""`python -m vedette.cli.quickstart PARENT SERVICE=RUN_DIR... [--no-models]`: started by `vedette up` only."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from vedette.chassis.place import die_with_parent
from vedette.cli.quickstart.guide import Guide


def main(arguments: list[str]) -> int:
    """Wait for the suite under process `PARENT`, set up the models, print what to do next."""
    parent, *places = [argument for argument in arguments if not argument.startswith("--")]
    run_dirs = {service: Path(folder) for service, _, folder in (place.partition("=") for place in places)}
    die_with_parent(int(parent))
    # Ctrl-C reaches every process of the terminal; the supervisor answers for all, so this one just ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return Guide(int(parent), run_dirs).run(with_models="--no-models" not in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
