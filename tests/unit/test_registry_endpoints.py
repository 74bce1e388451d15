"""The rules of an endpoint's configuration and the table of its statuses, without any store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.core.errors import Conflict, InvalidArgument
from vedette.core.models import (
    ApprovalStatus,
    CaptureSettings,
    EndpointConfig,
    EndpointStatus,
    Limits,
    ModelRef,
    SessionOptions,
    Signature,
    TensorSpec,
    Variant,
)
from vedette.core.ports import ReplicaReport
from vedette.registry import service as wiring
from vedette.registry.config import RegistrySettings
from vedette.registry.endpoints import (
    TRANSITIONS,
    ConfigDraft,
    Event,
    Rules,
    StepDraft,
    VariantDraft,
    after,
    check_fit,
    check_shape,
    is_gone,
    parse_choice,
    resolve,
    reweigh,
    verdict,
)
from vedette.testing.samples import endpoint, model_version

NAN, INF = float("nan"), float("inf")


def chain(signatures: Sequence[Signature]) -> Signature:
    """Steps fit when the number of columns does."""
    for before, behind in pairwise(signatures):
        if before.outputs[0].shape != behind.inputs[0].shape:
            raise InvalidArgument("the steps do not fit")
    return Signature(signatures[0].inputs, signatures[-1].outputs)


def check_options(options: SessionOptions) -> None:
    """Only the CPU."""
    if options.providers != ("CPUExecutionProvider",):
        raise InvalidArgument("no such provider here")


RULES = Rules(check_options, chain)


def config(*variants: Variant, **fields: Any) -> EndpointConfig:
    """A configuration of model m."""
    return EndpointConfig("m", variants or (Variant("a", 1),), **fields)


def wide(model: str, columns_in: int, columns_out: int, **fields: Any) -> Any:
    """A version that turns so many columns into so many."""
    signature = Signature(
        (TensorSpec("x", "FP32", (-1, columns_in)),), (TensorSpec("y", "FP32", (-1, columns_out)),), ("age",)
    )
    return model_version(model, 1, signature=signature, **fields)


GOOD = config(
    Variant("a", 1, 0.5),
    Variant("b", 2, 0.0, options=SessionOptions(intra_op_threads=2)),
    shadow_variants=(Variant("s", 3, 0.1),),
    limits=Limits(1, 1, 0.001),
    capture=CaptureSettings(50.0, outputs=False, exclude=("x",)),
)


def test_a_sound_configuration_passes() -> None:
    """Weights, shadows, limits, capture, options."""
    check_shape(GOOD)


BAD = {
    "no variants": EndpointConfig("m", ()),
    "eleven variants": config(*(Variant(f"v{n}", 1) for n in range(11))),
    "eleven shadows": config(shadow_variants=tuple(Variant(f"v{n}", 1) for n in range(11))),
    "same name twice": config(Variant("a", 1), Variant("a", 2)),
    "shadow with a variant's name": config(shadow_variants=(Variant("a", 2),)),
    "name with a slash": config(Variant("a/b", 1)),
    "model with a slash": EndpointConfig("../m", (Variant("a", 1),)),
    "negative weight": config(Variant("a", 1, -1.0)),
    "NaN weight": config(Variant("a", 1, NAN)),
    "infinite weight": config(Variant("a", 1, INF)),
    "all weights zero": config(Variant("a", 1, 0.0), Variant("b", 2, 0.0)),
    "NaN weight of a shadow": config(shadow_variants=(Variant("s", 2, NAN),)),
    "pipeline without the model": config(Variant("a", 1, pipeline=(ModelRef("p", 1),))),
    "pipeline with another version": config(Variant("a", 1, pipeline=(ModelRef("m", 2),))),
    "pipeline with two versions": config(Variant("a", 1, pipeline=(ModelRef("m", 1), ModelRef("m", 2)))),
    "pipeline with it twice": config(Variant("a", 1, pipeline=(ModelRef("m", 1), ModelRef("m", 1)))),
    "long pipeline": config(Variant("a", 1, pipeline=(ModelRef("m", 1), *(ModelRef(f"p{n}", 1) for n in range(15))))),
    "pipeline with a path": config(Variant("a", 1, pipeline=(ModelRef("m", 1), ModelRef("../p", 1)))),
    "no rows": config(limits=Limits(max_batch_rows=0)),
    "no queue": config(limits=Limits(max_queue=-1)),
    "no time": config(limits=Limits(timeout_s=0)),
    "NaN time": config(limits=Limits(timeout_s=NAN)),
    "endless time": config(limits=Limits(timeout_s=INF)),
    "101 percent": config(capture=CaptureSettings(101.0)),
    "NaN percent": config(capture=CaptureSettings(NAN)),
    "nothing to capture": config(capture=CaptureSettings(10.0, inputs=False, outputs=False)),
    "mode": config(capture=CaptureSettings(mode="maybe")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_what_is_wrong_in_itself_is_refused(bad: EndpointConfig) -> None:
    """Whatever the models are."""
    with pytest.raises(InvalidArgument):
        check_shape(bad)


def test_both_modes_of_capture_are_taken() -> None:
    """Best effort and strict."""
    check_shape(config(capture=CaptureSettings(10.0)))
    check_shape(config(capture=CaptureSettings(10.0, mode="strict")))


OPTIONS = {
    "no providers": SessionOptions(providers=()),
    "provider twice": SessionOptions(providers=("CPUExecutionProvider",) * 2),
    "no provider's name": SessionOptions(providers=("CPU",)),
    "negative threads": SessionOptions(intra_op_threads=-1),
    "million threads": SessionOptions(inter_op_threads=10**6),
    "optimization": SessionOptions(graph_optimization="most"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("allowed", [(), ("CPUExecutionProvider",)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_that_no_session_takes_are_refused(options: SessionOptions, allowed: tuple[str, ...]) -> None:
    """By the engine's own rules, also where the operator says which providers the replicas have."""
    rules = wiring._rules(RegistrySettings(allowed_providers=allowed))
    with pytest.raises(InvalidArgument, match="variant 'a': "):
        check_fit(config(Variant("a", 1, options=options)), {ModelRef("m", 1): wide("m", 3, 3)}, rules)


def test_a_rejected_version_is_not_deployed_and_a_pending_one_only_where_nobody_asks() -> None:
    """Also when it is a shadow or a step."""
    versions = {ModelRef("m", 1): wide("m", 3, 3, status=ApprovalStatus.REJECTED)}
    with pytest.raises(Conflict, match="m:1 is Rejected"):
        check_fit(config(), versions, RULES)
    pending = {ModelRef("m", 1): wide("m", 3, 3)}
    check_fit(config(), pending, RULES)
    with pytest.raises(Conflict, match="m:1 is PendingManualApproval"):
        check_fit(config(), pending, replace(RULES, require_approval=True))


def test_a_pipeline_must_fit() -> None:
    """The engine's own check decides, on the signatures in order."""
    piped = config(Variant("a", 1, pipeline=(ModelRef("p", 1), ModelRef("m", 1))))
    check_fit(piped, {ModelRef("m", 1): wide("m", 4, 2), ModelRef("p", 1): wide("p", 3, 4)}, RULES)
    with pytest.raises(InvalidArgument, match="do not fit"):
        check_fit(piped, {ModelRef("m", 1): wide("m", 5, 2), ModelRef("p", 1): wide("p", 3, 4)}, RULES)


def test_providers_that_are_not_here_are_refused() -> None:
    """At deploy, not at load."""
    wanted = config(Variant("a", 1, options=SessionOptions(providers=("CUDAExecutionProvider",))))
    check_shape(wanted)
    with pytest.raises(InvalidArgument, match="no such provider"):
        check_fit(wanted, {ModelRef("m", 1): wide("m", 3, 3)}, RULES)


def test_limits_that_no_request_could_meet_are_refused() -> None:
    """A graph that always takes 8 rows does not serve batches of at most 4."""
    signature = Signature((TensorSpec("x", "FP32", (8, 3)),), (TensorSpec("y", "FP32", (8, 1)),))
    versions = {ModelRef("m", 1): model_version("m", 1, signature=signature)}
    check_fit(config(limits=Limits(max_batch_rows=8)), versions, RULES)
    with pytest.raises(InvalidArgument, match="always has 8 rows"):
        check_fit(config(limits=Limits(max_batch_rows=4)), versions, RULES)


def test_columns_to_exclude_must_exist() -> None:
    """A misspelt column would be captured although it must not leave the process."""
    versions = {ModelRef("m", 1): wide("m", 1, 1)}
    check_fit(config(capture=CaptureSettings(exclude=("age", "x", "y"))), versions, RULES)
    with pytest.raises(InvalidArgument, match="no column 'aeg'"):
        check_fit(config(capture=CaptureSettings(exclude=("aeg",))), versions, RULES)


@pytest.mark.parametrize("shape", [(-1, -1), (-1, 2), (3,)])
def test_a_column_to_exclude_must_be_one_that_can_be_cut_out(shape: tuple[int, ...]) -> None:
    """Where the features do not lie side by side in one input, excluding one would capture it all the same."""
    signature = Signature((TensorSpec("x", "FP32", shape),), (), ("age", "income", "city"))
    versions = {ModelRef("m", 1): model_version("m", 1, signature=signature)}
    excluding = config(capture=CaptureSettings(exclude=("age",)))
    if shape == (3,):
        check_fit(excluding, versions, RULES)
        return
    with pytest.raises(InvalidArgument, match="'age' cannot be cut out"):
        check_fit(excluding, versions, RULES)
    check_fit(config(capture=CaptureSettings(exclude=("x",))), versions, RULES)


SHOWN = Signature(
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("z", "BYTES", (-1, 1))),
    (TensorSpec("y", "FP32", (-1, 1)),),
    ("age", "income", "city"),
    {"city": ("Ulm", "Bern")},
    ("stays", "leaves"),
)
X, Z = SHOWN.inputs
UNLIKE = {
    "name": (replace(SHOWN, inputs=(replace(X, name="a"), Z)), "inputs a, z in place of x, z"),
    "order": (replace(SHOWN, inputs=(Z, X)), "inputs z, x in place of x, z"),
    "missing": (replace(SHOWN, inputs=(X,)), "inputs x in place of x, z"),
    "datatype": (replace(SHOWN, inputs=(replace(X, datatype="FP64"), Z)), r"'x' is FP64 \[-1, 2\] in place of FP32"),
    "width": (replace(SHOWN, inputs=(replace(X, shape=(-1, 3)), Z)), r"'x' is FP32 \[-1, 3\] in place of"),
    "rank": (replace(SHOWN, inputs=(replace(X, shape=(-1, 2, 1)), Z)), r"'x' is FP32 \[-1, 2, 1\] in place of"),
    "feature order": (
        replace(SHOWN, feature_names=("income", "age", "city")),
        "feature_names income, age, city in place of age, income, city",
    ),
    "no features": (replace(SHOWN, feature_names=()), "feature_names none in place of age"),
    "categories": (replace(SHOWN, categories={"city": ("Bern", "Ulm")}), "other categories of feature 'city'"),
    "classes": (replace(SHOWN, label_names=("leaves", "stays")), "label_names leaves, stays in place of stays, leaves"),
    "no categories": (replace(SHOWN, categories={}), "other categories of feature 'city'"),
}


@pytest.mark.parametrize(("signature", "said"), UNLIKE.values(), ids=UNLIKE.keys())
@pytest.mark.parametrize("shadow", [False, True])
def test_variants_must_take_the_same_requests(signature: Signature, said: str, shadow: bool) -> None:
    """Clients build requests from one metadata document; the message names the variant and the difference."""
    versions = {
        ModelRef("m", 1): model_version("m", 1, signature=SHOWN),
        ModelRef("m", 2): model_version("m", 2, signature=signature),
    }
    first, other = Variant("a", 1), Variant("b", 2)
    both = config(first, shadow_variants=(other,)) if shadow else config(first, other)
    with pytest.raises(InvalidArgument, match=f"variant 'b' does not look like variant 'a' to callers: .*{said}"):
        check_fit(both, versions, RULES)
    check_fit(config(other), versions, RULES)


def test_variants_may_differ_in_what_no_request_depends_on() -> None:
    """Outputs, unnamed classes, fixed rows, and a dimension that one graph fixes and the other leaves open."""
    inputs = (replace(X, shape=(8, -1)), Z)
    other = replace(SHOWN, inputs=inputs, outputs=(TensorSpec("score", "FP64", (-1,)),), label_names=())
    versions = {
        ModelRef("m", 1): model_version("m", 1, signature=SHOWN),
        ModelRef("m", 2): model_version("m", 2, signature=other),
    }
    check_fit(config(Variant("a", 1), Variant("b", 2)), versions, RULES)


def test_aliases_are_looked_up_for_variants_shadows_and_steps() -> None:
    """What is stored has numbers only."""
    draft = ConfigDraft(
        "m",
        (VariantDraft("a", "@champion", pipeline=(StepDraft("p", "@stable"), StepDraft("m", "@champion"))),),
        (VariantDraft("s", 7),),
    )
    numbers = {("m", "@champion"): 3, ("p", "@stable"): 5, ("m", 7): 7}
    found = resolve(draft, lambda model, choice: numbers[model, choice])  # type: ignore[index]
    assert found.variants[0].version == 3
    assert found.variants[0].pipeline == (ModelRef("p", 5), ModelRef("m", 3))
    assert found.shadow_variants[0].version == 7
    check_shape(found)


@pytest.mark.parametrize("text", ["", "champion", "@", "@a/b", "-1", "1.0", "²", "9" * 20, "@" + "a" * 100])
def test_a_version_choice_is_a_number_or_an_alias(text: str) -> None:
    """Nothing else is guessed at."""
    with pytest.raises(InvalidArgument):
        parse_choice(text)
    assert (parse_choice("3"), parse_choice("@champion")) == (3, "@champion")


def test_weights_change_only_what_is_named() -> None:
    """Variants and shadows by name; unknown names and sums of zero are refused."""
    changed = reweigh(GOOD, {"b": 1.0, "s": 0.0})
    assert [variant.weight for variant in (*changed.variants, *changed.shadow_variants)] == [0.5, 1.0, 0.0]
    for bad in ({"zz": 1.0}, {}, {"a": -1.0}, {"a": NAN}, {"a": 0.0}):
        with pytest.raises(InvalidArgument):
            reweigh(GOOD, bad)


@pytest.mark.parametrize("status", EndpointStatus)
@pytest.mark.parametrize("event", get_args(Event))
def test_the_table_decides_every_pair(status: EndpointStatus, event: Event) -> None:
    """A pair that is not in it is a Conflict that names the status."""
    held = endpoint("e", config(), status=status)
    if (status, event) in TRANSITIONS:
        assert after(held, event) is TRANSITIONS[status, event]
    else:
        with pytest.raises(Conflict, match=status.value):
            after(held, event)


def test_what_is_being_deleted_can_only_go() -> None:
    """No event leads out of Deleting, and every other status can be deleted."""
    assert not [pair for pair in TRANSITIONS if pair[0] is EndpointStatus.DELETING]
    assert all((status, "delete") in TRANSITIONS for status in EndpointStatus if status is not EndpointStatus.DELETING)


REPORTS = st.lists(
    st.builds(
        ReplicaReport,
        replica=st.sampled_from(["r1", "r2", "r3"]),
        endpoint=st.just("e"),
        generation=st.integers(1, 3),
        state=st.sampled_from(["loading", "ready", "failed", "removed"]),
        reason=st.sampled_from(["", "no memory"]),
    ),
    unique_by=lambda report: report.replica,
)


@given(REPORTS, st.sets(st.sampled_from(["r1", "r2", "r3", "r4"])))
def test_ready_needs_everyone_and_one_failure_is_enough(reports: list[ReplicaReport], present: set[str]) -> None:
    """Over all combinations of replicas, generations and states."""
    found = verdict(endpoint("e", config(), generation=2), reports, present)
    now = [report for report in reports if report.generation == 2]
    living = {report.replica for report in reports} | present
    if any(report.state == "failed" for report in now):
        assert found is not None
        assert found[0] == "failed"
        assert found[1]
    elif living and living == {report.replica for report in now if report.state == "ready"}:
        assert found == ("ready", "")
    else:
        assert found is None


@given(REPORTS)
def test_an_endpoint_is_gone_when_nobody_holds_it(reports: list[ReplicaReport]) -> None:
    """Loading and ready hold it, removed and failed do not, silence does not."""
    assert is_gone(reports) == (not any(report.state in {"loading", "ready"} for report in reports))
