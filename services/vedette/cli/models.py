"""`vedette model ...`: the registry's models and versions."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vedette.cli.addresses import DATA_DIR, DataDir, Registry, connect
from vedette.cli.output import (
    JsonFlag,
    Table,
    facts,
    names_of,
    pairs_of,
    print_json,
    size,
    specs,
    upload_progress,
    when,
)

if TYPE_CHECKING:
    from vedette.core.models import ModelVersion
    from vedette.sdk.documents import Details, SignatureDetails
    from vedette.sdk.sync.client import Client

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the model.")]
Reference = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="A version: NAME (the newest), NAME:3 or NAME@alias.")
]
FeatureNames = Annotated[str, typer.Option(help="Column names in the model's order, comma-separated.")]
LabelNames = Annotated[str, typer.Option(help="Class names by class index, comma-separated.")]
Kind = Annotated[str, typer.Option(help="tabular or image.")]
Target = Annotated[str, typer.Option(help="Name of what is predicted.")]
Description = Annotated[str, typer.Option(help="What it is.")]
Metadata = Annotated[list[str] | None, typer.Option(help="key=value kept with the version; may be repeated.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="key=value; may be repeated.")]
Categories = Annotated[
    list[str] | None, typer.Option(help="column=a,b,c: the values a column may have; may be repeated.")
]
DetailsFile = Annotated[
    Path | None,
    typer.Option(
        "--details",
        help="JSON file with signature, metadata, description and tags; other options win over it.",
        exists=True,
        dir_okay=False,
    ),
]


@app.command()
def register(
    name: Name,
    path: Annotated[
        list[str], typer.Argument(help="An ONNX file (its external data after it), or a folder with both.")
    ],
    *,
    feature_names: FeatureNames = "",
    categories: Categories = None,
    label_names: LabelNames = "",
    kind: Kind = "",
    target: Target = "",
    description: Description = "",
    metadata: Metadata = None,
    tag: Tags = None,
    details_file: DetailsFile = None,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Upload a model version. The registry checks and runs it once before it keeps it.

    [bold]Examples[/]

      vedette model register iris iris.onnx

      vedette model register iris iris.onnx --label-names setosa,versicolor,virginica --metadata git=3f2c1

      vedette model register big model.onnx weights.bin

      vedette model register risk risk.onnx --categories "city=Ulm,Bern" --categories "size=S,M,L"
    """
    signature = _signature(feature_names, categories, label_names, kind, target)
    details = _details(details_file, signature, description, metadata, tag)
    told: list[ModelVersion] = []
    with connect(registry=registry, data_dir=data_dir) as client:
        source = path[0] if len(path) == 1 else path
        with upload_progress(f"Uploading {name}") as progress:
            version = client.models.register(name, source, details=details, progress=progress, on_existing=told.append)
        _registered(client, version, existed=bool(told), as_json=as_json)


@app.command("import")
def import_(
    name: Name,
    source: Annotated[
        str, typer.Argument(help="A path on the registry's machine, or s3://BUCKET/KEY, that it allows.")
    ],
    *,
    feature_names: FeatureNames = "",
    categories: Categories = None,
    label_names: LabelNames = "",
    kind: Kind = "",
    target: Target = "",
    description: Description = "",
    metadata: Metadata = None,
    tag: Tags = None,
    details_file: DetailsFile = None,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Register a model that the registry fetches itself, from where its operator allows.

    [bold]Examples[/]

      vedette model import iris s3://models/iris.onnx

      vedette model import iris /srv/models/iris.onnx
    """
    signature = _signature(feature_names, categories, label_names, kind, target)
    details = _details(details_file, signature, description, metadata, tag)
    told: list[ModelVersion] = []
    with connect(registry=registry, data_dir=data_dir) as client:
        version = client.models.import_from(name, source, details=details, on_existing=told.append)
        _registered(client, version, existed=bool(told), as_json=as_json)


@app.command("list")
def list_(
    *,
    name_contains: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
    tag: Tags = None,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """List the models.

    [bold]Examples[/]

      vedette model list

      vedette model list --tag team=risk --json
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        models = list(client.models.list(name_contains=name_contains, tags=pairs_of(tag or [], "--tag")))
    if as_json:
        print_json(models)
        return
    table = Table("name", "newest", "aliases", "tags", "changed", "description")
    for model in models:
        aliases = " ".join(f"{alias}={number}" for alias, number in model.aliases.items())
        tags = " ".join(f"{key}={value}" for key, value in model.tags.items())
        table.row(model.name, model.latest_version, aliases, tags, when(model.updated_at), model.description)
    table.show(empty="no models yet: vedette model register NAME PATH")


@app.command()
def show(
    reference: Reference,
    *,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Show a model with its versions, or one version.

    [bold]Examples[/]

      vedette model show iris

      vedette model show iris:3 --json

      vedette model show iris@champion
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        if ":" in reference or "@" in reference:
            _show_version(resolved(client, reference), as_json=as_json)
            return
        model, versions = client.models.get(reference), list(client.models.versions(reference))
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(model) | {"versions": msgspec.to_builtins(versions)})
        return
    facts(("name", model.name), ("description", model.description), ("created", when(model.created_at)))
    facts(*((f"@{alias}", number) for alias, number in model.aliases.items()))
    table = Table("version", "status", "size", "run time", "created", "description")
    for version in versions:
        total = size(sum(file.size for file in version.files))
        run_time = f"{version.admission.run_time_us:.0f} us"
        table.row(version.version, version.status.value, total, run_time, when(version.created_at), version.description)
    table.show(empty="no versions yet: vedette model register NAME PATH")


@app.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias, champion for example.")],
    version: Annotated[int | None, typer.Argument(help="The version it names from now on.")] = None,
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Point an alias at a version, or remove it.

    [bold]Examples[/]

      vedette model alias iris champion 3

      vedette model alias iris champion --delete
    """
    if delete == (version is not None):
        raise typer.BadParameter("give either a version or --delete", param_hint="VERSION")
    with connect(registry=registry, data_dir=data_dir) as client:
        if version is None:
            client.models.delete_alias(name, alias)
            typer.echo(f"{name}@{alias} is gone")
        else:
            client.models.set_alias(name, alias, version)
            typer.echo(f"{name}@{alias} is {name}:{version}")


@app.command()
def approve(
    reference: Reference,
    *,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Allow a version to serve.

    [bold]Examples[/]

      vedette model approve iris:3
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        found = resolved(client, reference)
        _decided(client.models.approve(found.model, found.version), as_json=as_json)


@app.command()
def reject(
    reference: Reference,
    *,
    as_json: JsonFlag = False,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Forbid a version to serve.

    [bold]Examples[/]

      vedette model reject iris:3
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        found = resolved(client, reference)
        _decided(client.models.reject(found.model, found.version), as_json=as_json)


@app.command()
def delete(
    reference: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", help="A model with all versions, or one version.")
    ],
    *,
    registry: Registry = "",
    data_dir: DataDir = DATA_DIR,
) -> None:
    """Delete a model with all its versions, or one version; refused while it is deployed.

    [bold]Examples[/]

      vedette model delete iris:2

      vedette model delete iris
    """
    with connect(registry=registry, data_dir=data_dir) as client:
        if ":" in reference or "@" in reference:
            found = resolved(client, reference)
            client.models.delete_version(found.model, found.version)
            typer.echo(f"{found.model}:{found.version} is deleted")
        else:
            client.models.delete(reference)
            typer.echo(f"{reference} is deleted")


def _signature(
    feature_names: str, categories: list[str] | None, label_names: str, kind: str, target: str
) -> SignatureDetails:
    from vedette.sdk.documents import SignatureDetails

    if kind not in ("", "tabular", "image"):
        raise typer.BadParameter(f"tabular or image, not {kind!r}", param_hint="--kind")
    values = pairs_of(categories or [], "--categories")
    return SignatureDetails(
        feature_names=names_of(feature_names),
        categories={column: names_of(text) for column, text in values.items()},
        label_names=names_of(label_names),
        kind=kind,  # type: ignore[arg-type] # checked above
        target=target,
    )


def _details(
    file: Path | None,
    signature: SignatureDetails,
    description: str,
    metadata: list[str] | None,
    tag: list[str] | None,
) -> Details:
    """What the file says, and over it what the options say."""
    from vedette.sdk.documents import Details

    said = _details_in(file) if file is not None else Details()
    given = {each.name: value for each in fields(signature) if (value := getattr(signature, each.name))}
    if "categories" in given:
        given["categories"] = {**said.signature.categories, **signature.categories}
    return Details(
        replace(said.signature, **given),
        metadata={**said.metadata, **pairs_of(metadata or [], "--metadata")},
        description=description or said.description,
        tags={**said.tags, **pairs_of(tag or [], "--tag")},
    )


def _details_in(file: Path) -> Details:
    """The document in a file, whole: a misspelt key is a usage error."""
    import msgspec

    from vedette.sdk.documents import Details, SignatureDetails

    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        read = msgspec.convert(document, Details)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint="--details") from error
    unknown = {*document} - {each.name for each in fields(Details)}
    unknown |= {*document.get("signature", {})} - {each.name for each in fields(SignatureDetails)}
    if unknown:
        raise typer.BadParameter(f"{file}: there is no {min(unknown)!r} in details", param_hint="--details")
    return read


def resolved(client: Client, reference: str) -> ModelVersion:
    """The version that NAME, NAME:3 or NAME@alias means now."""
    from vedette.core.errors import NotFound
    from vedette.core.models import parse_version_query

    query = parse_version_query(reference)
    if query.version is not None:
        return client.models.version(query.model, query.version)
    model = client.models.get(query.model)
    number = model.aliases.get(query.alias, 0) if query.alias else model.latest_version
    if not number:
        raise NotFound(f"{query.model} has no {f'alias {query.alias!r}' if query.alias else 'versions'}")
    return client.models.version(query.model, number)


def _registered(client: Client, version: ModelVersion, *, existed: bool, as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    name = f"{version.model}:{version.version}"
    run_time, memory = version.admission.run_time_us, version.admission.memory_bytes
    news = f"existed already as {name}" if existed else f"{name} is registered"
    typer.echo(f"{news} ({run_time:.0f} us a row, {size(memory)} of memory)")
    typer.echo(_next_step(client, version))


def _next_step(client: Client, version: ModelVersion) -> str:
    """How the version comes to serve: through the endpoint of the model's name, if there is one already."""
    from vedette.core.errors import VedetteError

    name = version.model
    try:
        config = client.endpoints.get(name).config
    except VedetteError:  # there is none; or there is no telling, and the registration stands all the same
        return f"deploy it: vedette endpoint deploy {name}"
    if config.model != name:
        return f"deploy it: vedette endpoint deploy ENDPOINT --model {name}"
    if [variant.version for variant in config.variants] == [version.version]:
        return f"the endpoint {name} has this version"
    change = f"--version {version.version}" if len(config.variants) == 1 else "--config FILE"
    return f"serve it: vedette endpoint update {name} {change}"


def _decided(version: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(version)
    else:
        typer.echo(f"{version.model}:{version.version} is {version.status}")


def _show_version(version: ModelVersion, *, as_json: bool) -> None:
    if as_json:
        print_json(version)
        return
    signature, admission = version.signature, version.admission
    facts(
        ("version", f"{version.model}:{version.version}"),
        ("status", version.status.value),
        ("description", version.description),
        ("created", when(version.created_at)),
        ("digest", version.digest),
        ("inputs", specs(signature.inputs)),
        ("outputs", specs(signature.outputs)),
        ("features", ", ".join(signature.feature_names)),
        ("categories", "; ".join(f"{name}: {', '.join(values)}" for name, values in signature.categories.items())),
        ("labels", ", ".join(signature.label_names)),
        ("kind", signature.kind),
        ("target", signature.target),
        ("run time", f"{admission.run_time_us:.0f} us"),
        ("load time", f"{admission.load_time_ms:.0f} ms"),
        ("memory", size(admission.memory_bytes)),
        ("metadata", ", ".join(f"{key}={value}" for key, value in version.metadata.items())),
    )
    table = Table("file", "size", "sha256")
    for file in version.files:
        table.row(file.path, size(file.size), file.sha256)
    table.show()
