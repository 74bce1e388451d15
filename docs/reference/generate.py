"""Write the pages of docs/reference that are tables of the code: checks, errors, metrics, settings.

`python docs/reference/generate.py` writes them, `--check` fails where one differs from the code.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vedette.chassis.metrics import METRICS
from vedette.core.errors import CODES
from vedette.modules import SERVICES
from vedette.monitor.check_descriptions import describe_checks

HERE = Path(__file__).parent


def checks() -> str:
    """What a monitor can check, each with its parameters."""
    lines = [
        "# Checks",
        "",
        "What `--check CHECK:parameter=value,...` of a new monitor on the command line, and `checks` of",
        "`POST /v1/monitors`, may name; a list is a parameter that stands there several times.",
        "`vedette monitor checks` shows the same. Which check when, and how often each is wrong:",
        "[detectors](../detectors.md).",
    ]
    for each in describe_checks():
        lines += ["", f"## {each.check}", "", each.summary, *(["", each.details] if each.details else [])]
        lines += ["", "| parameter | type | default | meaning |", "|---|---|---|---|"]
        for one in each.parameters:
            default = ", ".join(one.default) if isinstance(one.default, tuple) else str(one.default)
            default = default.lower() if isinstance(one.default, bool) else default
            lines.append(f"| `{one.name}` | {one.type} | {f'`{default}`' if default else 'empty'} | {one.meaning} |")
    return "\n".join(lines) + "\n"


def errors() -> str:
    """The table of error codes."""
    lines = [
        "# Errors",
        "",
        "Every error that a caller sees has one of these codes. REST routes of the Open Inference Protocol",
        'answer `{"error": "..."}`, SageMaker routes answer in AWS\'s shapes, control routes answer',
        "`application/problem+json` with the code; over gRPC it is in the trailing metadata `vedette-code`.",
        "",
        "| code | HTTP | gRPC | whose fault | meaning |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code.name}` | {code.http} | {code.grpc} | {code.fault} | {code.meaning} |" for code in CODES.values()
    ]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """The table of metrics."""
    lines = [
        "# Metrics",
        "",
        "Every service answers `GET /metrics` for Prometheus, exact over all its worker processes.",
        "",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for metric in METRICS.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """The settings of every service."""
    lines = [
        "# Settings",
        "",
        "A service reads its table of `vedette.toml` (named by `--config` or `VEDETTE_CONFIG`) and, over it,",
        "environment variables `VEDETTE_<SERVICE>__<FIELD>`; `VEDETTE_DATA_DIR` is `data_dir` of all services and of",
        "the command line. An unknown key is an error. `vedette check-config`",
        "shows what holds and where it comes from.",
    ]
    for name, module in SERVICES.items():
        lines += ["", f"## [{name}]", "", "| field | default | meaning |", "|---|---|---|"]
        for field, info in module.load_class(name).model_fields.items():
            default = info.get_default(call_default_factory=True)
            shown = default if not isinstance(default, Path) else str(default)
            lines.append(f"| `{field}` | `{shown!r}` | {' '.join((info.description or '').split())} |")
    return "\n".join(lines) + "\n"


PAGES = {"checks.md": checks, "errors.md": errors, "metrics.md": metrics, "settings.md": settings}


def main() -> int:
    """Write or check every page; the number of pages that differ is the exit status."""
    stale = [name for name, page in PAGES.items() if not (HERE / name).exists() or (HERE / name).read_text() != page()]
    for name in stale:
        if "--check" in sys.argv:
            print(f"docs/reference/{name} is not what the code says: run `make docs`")
        else:
            (HERE / name).write_text(PAGES[name]())
    return len(stale) if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
