"""`vedette endpoint ...`: what serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, Registry, connect
from vedette.cli.output import JsonFlag, Table, facts, names_of, pairs_of, print_json, spinner, when

if TYPE_CHECKING:
    from vedette.core.models import CaptureSettings, DynamicBatching, Endpoint, EndpointConfig
    from vedette.sdk.sync.client import Client

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the endpoint.")]
Version = Annotated[str, typer.Option(help="A version number or @alias.")]
ConfigDocument = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="JSON file with the whole configuration (model, variants, limits, ...).",
        exists=True,
        dir_okay=False,
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once instead of when it serves.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Longest wait in seconds.", min=0.0)]
TIMEOUT_S = 120.0


@app.command()
def deploy(
    name: Name,
    *,
    model: Annotated[str, typer.Option(help="The model; without it the one of the endpoint's name.")] = "",
    version: Version = "",
    config: ConfigDocument = None,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Make an endpoint: the model of that name, its newest version, one variant, unless told otherwise.

    [bold]Examples[/]

      vedette endpoint deploy iris

      vedette endpoint deploy iris-eu --model iris --version @champion

      vedette endpoint deploy iris --config ab-test.json
    """
    from vedette.core.errors import AlreadyExists

    if config and (model or version):
        raise typer.BadParameter("a configuration names its own model and versions", param_hint="--config")
    document = _document(config) if config else None
    with connect(registry=registry, data_dir=data_dir) as client:
        try:
            wanted = client.endpoints.deploy(name, model=model, version=_choice(version), config=document)
        except AlreadyExists as error:
            change = "--config FILE" if config else f"--version {version or 'N'}"
            raise AlreadyExists(f"{error.message}; change it: vedette endpoint update {name} {change}") from error
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


@app.command("list")
def list_(
    *,
    model: Annotated[str, typer.Option(help="Only endpoints of this model.")] = "",
    status: Annotated[str, typer.Option(help="Only endpoints in this status, InService for example.")] = "",
    name_contains: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List the endpoints.

    [bold]Examples[/]

      vedette endpoint list

      vedette endpoint list --status Failed --json
    """
    from vedette.core.models import EndpointStatus

    known = {kind.value.lower(): kind for kind in EndpointStatus}
    if status and status.lower() not in known:
        raise typer.BadParameter(f"one of {', '.join(EndpointStatus)}, not {status!r}", param_hint="--status")
    with connect(registry=registry, data_dir=data_dir) as client:
        wanted = known.get(status.lower())
        found = list(client.endpoints.list(model=model, status=wanted, name_contains=name_contains))
    if as_json:
        print_json(found)
        return
    table = Table("name", "status", "model", "variants", "generation", "changed", "reason")
    for endpoint in found:
        config, moment = endpoint.config, when(endpoint.updated_at)
        status = endpoint.status.value
        table.row(endpoint.name, status, config.model, _variants(config), endpoint.generation, moment, endpoint.reason)
    table.show(empty="no endpoints yet: vedette endpoint deploy NAME")


@app.command()
def show(
    name: Name,
    *,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show an endpoint: its status, variants and earlier configurations.

    [bold]Examples[/]

      vedette endpoint show iris

      vedette endpoint show iris --json
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        endpoint, generations = client.endpoints.get(name), list(client.endpoints.generations(name))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(endpoint) | {"generations": msgspec.to_builtins(generations)})
        return
    config = endpoint.config
    facts(
        ("name", endpoint.name),
        ("status", endpoint.status.value),
        ("reason", endpoint.reason),
        ("model", config.model),
        ("generation", f"{endpoint.generation} (serving: {endpoint.serving_generation or 'none yet'})"),
        ("changed", when(endpoint.updated_at)),
        (
            "limits",
            f"{config.limits.max_batch_rows} rows, {config.limits.max_queue} waiting, {config.limits.timeout_s:g} s",
        ),
        ("batching", _batched(config.dynamic_batching)),
        ("capture", _captured(config.capture)),
    )
    table = Table("variant", "version", "weight", "share", "pipeline")
    for variant, share in zip(config.variants, _shares(config), strict=True):
        table.row(variant.name, variant.version, f"{variant.weight:g}", share, " > ".join(map(str, variant.pipeline)))
    for variant in config.shadow_variants:
        table.row(
            variant.name, variant.version, f"{variant.weight:g}", "shadow", " > ".join(map(str, variant.pipeline))
        )
    table.show()
    history = Table("generation", "made by", "variants", "when")
    for generation in generations:
        history.row(generation.generation, generation.cause, _variants(generation.config), when(generation.created_at))
    history.show()


@app.command()
def update(
    name: Name,
    *,
    version: Version = "",
    weights: Annotated[str, typer.Option(help="Shares by variant: a=9,b=1.")] = "",
    config: ConfigDocument = None,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Change what an endpoint serves; the old configuration serves until the new one can.

    [bold]Examples[/]

      vedette endpoint update iris --version 4

      vedette endpoint update iris --weights champion=9,challenger=1

      vedette endpoint update iris --config ab-test.json
    """
    if sum(map(bool, (version, weights, config))) != 1:
        raise typer.BadParameter("give one of --version, --weights and --config", param_hint="--version")
    with connect(registry=registry, data_dir=data_dir) as client:
        if weights:
            wanted = client.endpoints.weights(name, _weights(weights))
        elif config:
            wanted = client.endpoints.update(name, _document(config))
        else:
            document = _with_version(client.endpoints.get(name), _choice(version))
            wanted = client.endpoints.update(name, document)
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


@app.command()
def rollback(
    name: Name,
    *,
    to: Annotated[int | None, typer.Option(help="The generation; without it the one that served before.")] = None,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Go back to an earlier configuration.

    [bold]Examples[/]

      vedette endpoint rollback iris

      vedette endpoint rollback iris --to 3
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        wanted = client.endpoints.rollback(name, generation=to)
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


@app.command()
def start(
    name: Name,
    *,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Put a stopped endpoint back into service.

    [bold]Examples[/]

      vedette endpoint start iris
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        wanted = client.endpoints.start(name)
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)


@app.command()
def stop(
    name: Name,
    *,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Take an endpoint out of service and keep its configuration.

    [bold]Examples[/]

      vedette endpoint stop iris
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        client.endpoints.stop(name)
    typer.echo(f"{name} is stopped")


@app.command()
def capture(
    name: Name,
    *,
    percent: Annotated[
        float | None,
        typer.Option(help="Share of requests to record; 0 ends it. All, if none were recorded.", min=0, max=100),
    ] = None,
    mode: Annotated[str, typer.Option(help="best_effort, or strict: no answer without its record.")] = "",
    exclude: Annotated[
        str | None, typer.Option(help="Columns never recorded, comma-separated; '' for none.", show_default=False)
    ] = None,
    inputs_only: Annotated[bool, typer.Option("--inputs-only", help="Record no outputs.")] = False,
    outputs_only: Annotated[bool, typer.Option("--outputs-only", help="Record no inputs.")] = False,
    both: Annotated[bool, typer.Option("--both", help="Record inputs and outputs.")] = False,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Record an endpoint's requests and answers on the metrics stream, for monitors and the archive.

    Only what is named changes: an exclusion, for example, holds until --exclude says otherwise.

    [bold]Examples[/]

      vedette endpoint capture breast-cancer

      vedette endpoint capture churn --percent 20 --exclude name,street --mode strict
    """
    from dataclasses import replace

    if mode not in ("", "best_effort", "strict"):
        raise typer.BadParameter(f"best_effort or strict, not {mode!r}", param_hint="--mode")
    if inputs_only + outputs_only + both > 1:
        raise typer.BadParameter("give one of --inputs-only, --outputs-only and --both", param_hint="--inputs-only")
    changes: dict[str, Any] = {"mode": mode} if mode else {}
    if inputs_only or outputs_only or both:
        changes |= {"inputs": not outputs_only, "outputs": not inputs_only}
    if exclude is not None:
        changes["exclude"] = names_of(exclude)
    with connect(registry=registry, data_dir=data_dir) as client:
        config = client.endpoints.get(name).config
        share = percent if percent is not None else config.capture.sampling_percent or 100.0
        settings = replace(config.capture, sampling_percent=share, **changes)
        wanted = client.endpoints.update(name, replace(config, capture=settings))
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)
    if not as_json:
        typer.echo(f"capture: {_captured(settings)}")


@app.command()
def batching(
    name: Name,
    *,
    enabled: Annotated[bool | None, typer.Option("--on/--off", help="Whether requests may share a run.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Rows of a merged run; 0: as many as pay.")] = None,
    max_queue_delay_us: Annotated[int | None, typer.Option(help="Longest wait for company, in microseconds.")] = None,
    preferred_batch_size: Annotated[
        str | None, typer.Option(help="Sizes that end that wait, as in 4,8; '' for none.", show_default=False)
    ] = None,
    bucket_sizes: Annotated[
        str | None, typer.Option(help="Sizes that runs are filled up to, as in 8,32; '' for none.", show_default=False)
    ] = None,
    preserve_ordering: Annotated[
        bool | None, typer.Option("--preserve-ordering/--any-order", help="Answer in the order of arrival.")
    ] = None,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Say how an endpoint merges requests into one run of its model. Priorities and timeouts: update --config.

    Only what is named changes.

    [bold]Examples[/]

      vedette endpoint batching iris --max-batch-size 32 --max-queue-delay-us 2000

      vedette endpoint batching iris --off
    """
    from dataclasses import replace

    given: dict[str, Any] = {
        "enabled": enabled,
        "max_batch_size": max_batch_size,
        "max_queue_delay_microseconds": max_queue_delay_us,
        "preferred_batch_size": _sizes(preferred_batch_size, "--preferred-batch-size"),
        "bucket_sizes": _sizes(bucket_sizes, "--bucket-sizes"),
        "preserve_ordering": preserve_ordering,
    }
    changes = {option: value for option, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("say what to change, --off for example", param_hint="--on")
    with connect(registry=registry, data_dir=data_dir) as client:
        config = client.endpoints.get(name).config
        settings = replace(config.dynamic_batching, **changes)
        wanted = client.endpoints.update(name, replace(config, dynamic_batching=settings))
        _settled(client, wanted, no_wait=no_wait, timeout_s=timeout, as_json=as_json)
    if not as_json:
        typer.echo(f"batching: {_batched(settings)}")


@app.command()
def delete(
    name: Name,
    *,
    no_wait: NoWait = False,
    timeout: Timeout = TIMEOUT_S,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Delete an endpoint; its model stays in the registry.

    [bold]Examples[/]

      vedette endpoint delete iris
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        client.endpoints.delete(name)
        if not no_wait:
            with spinner(f"Deleting {name}"):
                client.endpoints.wait_deleted(name, timeout_s=timeout)
    typer.echo(f"{name} is {'being deleted' if no_wait else 'deleted'}")


def _settled(client: Client, wanted: Endpoint, *, no_wait: bool, timeout_s: float, as_json: bool) -> None:
    """Wait until what the change asked for serves, unless told not to, and show the endpoint."""
    name = wanted.name
    if no_wait:
        endpoint = client.endpoints.get(name)
    else:
        with spinner(f"Waiting until {name} serves"):
            generation = wanted.generation
            endpoint = client.endpoints.wait_in_service(name, generation=generation, timeout_s=timeout_s)
    if as_json:
        print_json(endpoint)
    else:
        typer.echo(f"{name} is {endpoint.status}: {endpoint.config.model}, {_variants(endpoint.config)}")


def _variants(config: EndpointConfig) -> str:
    shares = zip(config.variants, _shares(config), strict=True)
    shown = [f"{variant.name} v{variant.version} {share}" for variant, share in shares]
    return ", ".join(shown + [f"{variant.name} v{variant.version} shadow" for variant in config.shadow_variants])


def _captured(settings: CaptureSettings) -> str:
    """What is recorded, in one line; also what would hold if it were switched on again."""
    if not settings.sampling_percent:
        share = "off"
    else:
        sides = [side for side, on in (("inputs", settings.inputs), ("outputs", settings.outputs)) if on]
        share = f"{settings.sampling_percent:g}% of requests, {' and '.join(sides) or 'neither inputs nor outputs'}"
    parts = [share, settings.mode]
    if settings.exclude:
        parts.append(f"without {', '.join(settings.exclude)}")
    return ", ".join(parts)


def _batched(settings: DynamicBatching) -> str:
    """How requests are merged, in one line; what is as it is by default is left out."""
    if not settings.enabled:
        return "off"
    rows = f"up to {settings.max_batch_size} rows" if settings.max_batch_size else "as many rows as pay"
    delay = f"at most {settings.max_queue_delay_microseconds} us" if settings.max_queue_delay_microseconds else "no"
    parts = [rows, f"{delay} delay"]
    for text, sizes in (("preferably", settings.preferred_batch_size), ("filled up to", settings.bucket_sizes)):
        if sizes:
            parts.append(f"{text} {', '.join(map(str, sizes))}")
    return ", ".join(parts + ["in order"] * settings.preserve_ordering)


def _sizes(text: str | None, option: str) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(size) for size in names_of(text))
    except ValueError:
        raise typer.BadParameter(f"sizes as in 4,8, not {text!r}", param_hint=option) from None


def _shares(config: EndpointConfig) -> list[str]:
    """The share of traffic of each variant; weights are relative to their sum."""
    total = sum(variant.weight for variant in config.variants)
    return [f"{100 * variant.weight / total:.3g}%" if total else "0%" for variant in config.variants]


def _choice(version: str) -> int | str:
    """A version as the registry takes it: a number or `@alias`; empty for the newest."""
    if not version or version.startswith("@"):
        return version
    if not version.isdecimal() or int(version) < 1:
        raise typer.BadParameter(f"a number or @alias, not {version!r}", param_hint="--version")
    return int(version)


def _weights(text: str) -> dict[str, float]:
    try:
        return {name: float(weight) for name, weight in pairs_of(list(names_of(text)), "--weights").items()}
    except ValueError:
        raise typer.BadParameter(f"write variant=number, not {text!r}", param_hint="--weights") from None


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--config") from error
    if not isinstance(document, dict):
        raise typer.BadParameter(f"{path}: not a JSON object", param_hint="--config")
    return document


def _with_version(endpoint: Endpoint, version: int | str) -> dict[str, Any]:
    """The endpoint's configuration with its only variant at another version, also inside a pipeline."""
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(endpoint.config)
    if len(document["variants"]) != 1:
        names = ", ".join(variant.name for variant in endpoint.config.variants)
        raise typer.BadParameter(
            f"{endpoint.name} has several variants ({names}): use --config", param_hint="--version"
        )
    variant = document["variants"][0]
    variant["version"] = version
    for step in variant["pipeline"]:
        if step["model"] == document["model"]:
            step["version"] = version
    return document
