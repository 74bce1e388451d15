"""Endpoints over their life: what users and replicas do, on the memory catalog and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vedette.core.clock import ManualClock
from vedette.core.errors import AlreadyExists, Conflict, InvalidArgument, NotFound, VedetteError
from vedette.core.models import ApprovalStatus, Endpoint, EndpointStatus, Model
from vedette.core.ports import ReplicaReport
from vedette.registry.deployments import Deployments, Listing
from vedette.registry.endpoints import ConfigDraft, Rules, StepDraft, VariantDraft
from vedette.registry.lifecycle import Lifecycle
from vedette.registry.replicas import Replicas
from vedette.storage.memory import MemoryCatalog, MemoryEventStream
from vedette.testing.samples import model_version

LEASE_S = 10.0


class World:
    """A catalog with models `m` (versions 1 to 3) and `p` (version 1), and what acts on it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.catalog = MemoryCatalog()
        self.lifecycle = Lifecycle(MemoryEventStream(), self.clock)
        self.rules = Rules(lambda options: None, lambda steps: steps[0])
        self.deployments, self.replicas = self.another()
        with self.catalog.transaction() as tx:
            for name, count in (("m", 3), ("p", 1)):
                tx.insert_model(Model(name, 0))
                for _ in range(count):
                    number = tx.next_version(name)
                    tx.insert_version(model_version(name, number, content=f"{name}{number}".encode()))

    def another(self) -> tuple[Deployments, Replicas]:
        """A registry process on the same catalog."""
        replicas = Replicas(self.catalog, self.clock, lifecycle=self.lifecycle, lease_s=LEASE_S)
        made = Deployments(self.catalog, self.rules, self.clock, lifecycle=self.lifecycle, replicas=replicas)
        return made, replicas

    def say(
        self, state: str, generation: int, reason: str = "", *, replica: str = "r1", endpoint: str = "e"
    ) -> Endpoint:
        """A replica's report, and the endpoint after it."""
        self.replicas.report([ReplicaReport(replica, endpoint, generation, state, reason)])
        return self.deployments.get("e")

    def serving(self, *versions: int) -> Endpoint:
        """Endpoint `e` after serving these versions of `m` one after another."""
        endpoint = self.deployments.create("e", draft(versions[0]))
        self.say("ready", endpoint.generation)
        for version in versions[1:]:
            endpoint = self.deployments.update("e", draft(version))
            self.say("ready", endpoint.generation)
        return self.deployments.get("e")

    def wanted(self) -> list[int | None]:
        """Versions of `e` in the log of changes, None where it was not wanted."""
        with self.catalog.read() as view:
            return [
                change.deployment.config.variants[0].version if change.deployment else None
                for change in view.changes(0, 1000)
                if change.endpoint == "e"
            ]


def draft(version: int | str, **fields: object) -> ConfigDraft:
    """One variant of model m."""
    return replace(ConfigDraft("m", (VariantDraft("primary", version),)), **fields)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def test_the_short_form_deploys_the_newest_version_that_may_serve(world: World) -> None:
    """Rejected versions are passed over; with approval required, pending ones too."""
    with world.catalog.transaction() as tx:
        tx.update_version(replace(tx.version("m", 3), status=ApprovalStatus.REJECTED))
        tx.update_version(replace(tx.version("m", 1), status=ApprovalStatus.APPROVED))
    assert world.deployments.create_short("m").config.variants[0].version == 2
    world.rules = replace(world.rules, require_approval=True)
    assert world.another()[0].create_short("e", model="m").config.variants[0].version == 1
    with pytest.raises(Conflict, match="no version that may be deployed"):
        world.another()[0].create_short("p")


def test_an_alias_is_resolved_when_it_is_deployed(world: World) -> None:
    """Moving it later moves nothing that serves."""
    with world.catalog.transaction() as tx:
        tx.set_alias("m", "champion", 2)
    assert world.deployments.create("e", draft("@champion")).config.variants[0].version == 2
    with world.catalog.transaction() as tx:
        tx.set_alias("m", "champion", 3)
    assert world.deployments.get("e").config.variants[0].version == 2
    with pytest.raises(NotFound, match="no alias 'challenger'"):
        world.deployments.update("e", draft("@challenger"))


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (draft(9), NotFound),
        (draft(2**40), NotFound),
        (draft(-1), NotFound),
        (ConfigDraft("nothing", (VariantDraft("a", 1),)), NotFound),
        (ConfigDraft("../m", (VariantDraft("a", 1),)), InvalidArgument),
        (ConfigDraft("m", (VariantDraft("a", 1, pipeline=(StepDraft("p", 7), StepDraft("m", 1))),)), NotFound),
        (ConfigDraft("m", (VariantDraft("a", 1, weight=0.0),)), InvalidArgument),
    ],
)
def test_a_refused_deploy_leaves_nothing(world: World, wanted: ConfigDraft, error: type[VedetteError]) -> None:
    """No endpoint, no generation, no change in the log."""
    with pytest.raises(error):
        world.deployments.create("e", wanted)
    with pytest.raises(NotFound):
        world.deployments.get("e")
    assert world.wanted() == []
    before = world.serving(1)
    with pytest.raises(error if wanted.model == "m" else InvalidArgument):
        world.deployments.update("e", wanted)
    assert world.deployments.get("e") == before
    assert world.wanted() == [1]


def test_an_endpoint_is_made_once(world: World) -> None:
    """The name is taken until it is deleted."""
    world.serving(1)
    with pytest.raises(AlreadyExists):
        world.deployments.create("e", draft(2))


def test_creating_ends_when_every_replica_is_ready(world: World) -> None:
    """Not with the first of two, and not with an old generation."""
    world.deployments.create("e", draft(1))
    assert world.say("loading", 1, replica="r2").status is EndpointStatus.CREATING
    assert world.say("ready", 1).status is EndpointStatus.CREATING
    done = world.say("ready", 1, replica="r2")
    assert (done.status, done.serving_generation) == (EndpointStatus.IN_SERVICE, 1)


def test_a_first_load_that_fails_is_failed_with_its_reason(world: World) -> None:
    """Nothing served before, so there is nothing to go back to."""
    world.deployments.create("e", draft(1))
    failed = world.say("failed", 1, "no such operator")
    assert (failed.status, failed.reason, failed.serving_generation) == (EndpointStatus.FAILED, "no such operator", 0)
    recovered = world.say("ready", 1)
    assert (recovered.status, recovered.reason) == (EndpointStatus.IN_SERVICE, "")


def test_a_failed_update_goes_back_by_itself_and_keeps_the_reason(world: World) -> None:
    """The old configuration comes as a new generation, because replicas only go forward."""
    world.serving(1)
    assert world.deployments.update("e", draft(2)).status is EndpointStatus.UPDATING
    back = world.say("failed", 2, "out of memory")
    assert (back.status, back.generation) == (EndpointStatus.ROLLING_BACK, 3)
    assert back.config.variants[0].version == 1
    assert back.reason == "generation 2 failed: out of memory"
    done = world.say("ready", 3)
    assert (done.status, done.reason) == (EndpointStatus.IN_SERVICE, back.reason)
    assert world.wanted() == [1, 2, 1]


def test_a_failed_rollback_is_failed(world: World) -> None:
    """There is no second place to go back to."""
    world.serving(1)
    world.deployments.update("e", draft(2))
    world.say("failed", 2, "a")
    assert world.say("failed", 3, "b").status is EndpointStatus.FAILED


def test_a_late_report_on_an_old_generation_decides_nothing(world: World) -> None:
    """What failed before is not what is wanted now."""
    world.serving(1)
    world.deployments.update("e", draft(2))
    world.deployments.update("e", draft(3))
    assert world.say("failed", 2, "late").status is EndpointStatus.UPDATING


def test_rollback_goes_to_what_served_before(world: World) -> None:
    """Over a generation that never served, and back again the second time."""
    world.serving(1, 2)
    world.deployments.update("e", draft(3))
    world.say("failed", 3, "x")
    world.say("ready", 4)
    back = world.deployments.rollback("e")
    assert (back.generation, back.config.variants[0].version, back.status) == (5, 1, EndpointStatus.UPDATING)
    world.say("ready", 5)
    assert world.deployments.rollback("e").config.variants[0].version == 2
    causes = [generation.cause for generation in world.deployments.generations("e", limit=9, page_token="")[0]]
    assert causes == ["rollback to 4", "rollback to 1", "automatic rollback to 2", "update", "update", "create"]


def test_rollback_during_an_update_calls_it_off(world: World) -> None:
    """What serves is what one goes back to."""
    world.serving(1, 2)
    world.deployments.update("e", draft(3))
    assert world.deployments.rollback("e").config.variants[0].version == 2


def test_rollback_to_a_given_generation(world: World) -> None:
    """Any that exists and is not the wanted one; its versions must still be there and allowed."""
    world.serving(1, 2, 3)
    assert world.deployments.rollback("e", 1).config.variants[0].version == 1
    for number, error in ((4, Conflict), (9, NotFound), (2**40, NotFound), (-1, NotFound)):
        with pytest.raises(error):
            world.deployments.rollback("e", number)
    with world.catalog.transaction() as tx:
        tx.update_version(replace(tx.version("m", 2), status=ApprovalStatus.REJECTED))
    with pytest.raises(Conflict, match="Rejected"):
        world.deployments.rollback("e", 2)


def test_rollback_needs_something_that_served(world: World) -> None:
    """A first generation has nothing before it."""
    world.serving(1)
    with pytest.raises(Conflict, match="no earlier generation"):
        world.deployments.rollback("e")


def test_weights_are_an_update_of_their_own(world: World) -> None:
    """A new generation with the same versions."""
    world.deployments.create("e", draft(1, variants=(VariantDraft("a", 1), VariantDraft("b", 2))))
    world.say("ready", 1)
    changed = world.deployments.update_weights("e", {"b": 3.0})
    assert [variant.weight for variant in changed.config.variants] == [1.0, 3.0]
    assert (changed.generation, changed.status) == (2, EndpointStatus.UPDATING)


def test_the_model_of_an_endpoint_does_not_change(world: World) -> None:
    """The variants of one endpoint serve versions of one model."""
    world.serving(1)
    with pytest.raises(InvalidArgument, match="cannot change"):
        world.deployments.update("e", ConfigDraft("p", (VariantDraft("a", 1),)))


def test_stop_and_start(world: World) -> None:
    """Out of service at once; back with a new generation, so that old reports mean nothing."""
    world.serving(1)
    stopped = world.deployments.stop("e")
    assert (stopped.status, stopped.serving) == (EndpointStatus.OUT_OF_SERVICE, False)
    assert world.deployments.stop("e") == stopped
    world.deployments.update("e", draft(2))
    assert world.wanted() == [1, None]
    started = world.deployments.start("e")
    assert (started.status, started.generation) == (EndpointStatus.CREATING, 3)
    assert world.say("ready", 1).status is EndpointStatus.CREATING
    assert world.say("ready", 3).status is EndpointStatus.IN_SERVICE
    assert world.deployments.start("e").generation == 3
    assert world.wanted() == [1, None, 2]


def test_delete_waits_for_the_replicas_that_hold_it(world: World) -> None:
    """Deleting until every living one has let go; then the name is free again."""
    world.serving(1, 2)
    world.say("ready", 2, replica="r2")
    assert world.deployments.delete("e").status is EndpointStatus.DELETING
    for change in (world.deployments.start, world.deployments.stop, world.deployments.rollback):
        with pytest.raises(Conflict, match="Deleting"):
            change("e")
    assert world.say("removed", 2).status is EndpointStatus.DELETING
    with pytest.raises(NotFound):
        world.say("removed", 2, replica="r2")
    assert world.deployments.create("e", draft(1)).generation == 1
    assert world.wanted() == [1, 2, None, 1]


def test_delete_does_not_wait_for_the_dead(world: World) -> None:
    """A replica that is silent for a lease holds nothing."""
    world.serving(1)
    world.deployments.delete("e")
    world.clock.advance(LEASE_S / 2)
    world.replicas.sweep()
    assert world.deployments.get("e").status is EndpointStatus.DELETING
    world.clock.advance(LEASE_S)
    world.replicas.sweep()
    with pytest.raises(NotFound):
        world.deployments.get("e")


def test_an_endpoint_that_nobody_holds_is_deleted_at_once(world: World) -> None:
    """No replica ever reported on it."""
    world.deployments.create("e", draft(1))
    world.deployments.delete("e")
    with pytest.raises(NotFound):
        world.deployments.get("e")


def test_an_update_does_not_wait_for_the_dead(world: World) -> None:
    """The survivor's word is enough when the other's lease is over."""
    world.deployments.create("e", draft(1))
    world.say("loading", 1, replica="r2")
    world.clock.advance(LEASE_S * 0.75)
    world.say("ready", 1)
    world.replicas.sweep()
    assert world.deployments.get("e").status is EndpointStatus.CREATING
    world.clock.advance(LEASE_S * 0.5)
    world.replicas.sweep()
    assert world.deployments.get("e").status is EndpointStatus.IN_SERVICE


def test_a_replica_known_from_another_endpoint_is_waited_for(world: World) -> None:
    """It lives, so it will have to serve this one too."""
    world.deployments.create("e", draft(1))
    world.deployments.create("f", draft(1))
    world.say("ready", 1, replica="r2", endpoint="f")
    assert world.say("ready", 1).status is EndpointStatus.CREATING
    assert world.say("ready", 1, replica="r2").status is EndpointStatus.IN_SERVICE


def test_a_late_replica_that_fails_takes_nobody_out_of_service(world: World) -> None:
    """Others serve on; the reason is shown."""
    world.serving(1)
    shown = world.say("failed", 1, "disk", replica="r2")
    assert (shown.status, shown.reason) == (EndpointStatus.IN_SERVICE, "disk")


@pytest.mark.parametrize(
    "report",
    [
        ReplicaReport("r/1", "e", 1, "ready"),
        ReplicaReport("r", "../e", 1, "ready"),
        ReplicaReport("r", "e", 1, "splendid"),
    ],
)
def test_reports_that_make_no_sense_are_refused(world: World, report: ReplicaReport) -> None:
    """Names are names and there are four states."""
    with pytest.raises(InvalidArgument):
        world.replicas.report([report])


def test_a_report_on_an_endpoint_that_is_gone_is_no_error(world: World) -> None:
    """The replica has simply not heard yet."""
    world.replicas.report([ReplicaReport("r", "gone", 1, "ready")])


def test_two_registry_processes_agree(world: World) -> None:
    """What one is told, the other acts on."""
    _, other = world.another()
    world.deployments.create("e", draft(1))
    other.report([ReplicaReport("r2", "e", 1, "loading")])
    assert world.say("ready", 1).status is EndpointStatus.CREATING
    other.report([ReplicaReport("r2", "e", 1, "ready")])
    other.report([ReplicaReport("r1", "e", 1, "ready")])
    assert world.deployments.get("e").status is EndpointStatus.IN_SERVICE


def test_lists_filter_and_page(world: World) -> None:
    """By model, status and part of the name."""
    for name in ("alpha", "beta", "gamma"):
        world.deployments.create(name, draft(1))
    world.deployments.create_short("p")
    found, token = world.deployments.page(Listing(limit=2))
    assert ([endpoint.name for endpoint in found], bool(token)) == (["alpha", "beta"], True)
    rest, token = world.deployments.page(Listing(limit=2, page_token=token))
    assert ([endpoint.name for endpoint in rest], token) == (["gamma", "p"], "")
    assert [e.name for e in world.deployments.page(Listing(model="p"))[0]] == ["p"]
    assert [e.name for e in world.deployments.page(Listing(name_contains="AM"))[0]] == ["gamma"]
    assert world.deployments.page(Listing(status=EndpointStatus.FAILED))[0] == []


def test_the_index_says_what_is_ready(world: World) -> None:
    """One line a version of each endpoint, then the models that no endpoint has the name of."""
    world.deployments.create("e", draft(1, variants=(VariantDraft("a", 1), VariantDraft("b", 2))))
    entries = [(entry.name, entry.version, entry.state) for entry in world.deployments.index()]
    assert entries == [
        ("e", "1", "LOADING"),
        ("e", "2", "LOADING"),
        ("m", "3", "UNAVAILABLE"),
        ("p", "1", "UNAVAILABLE"),
    ]


class Lives(RuleBasedStateMachine):
    """Any order of what users, replicas and time do keeps the endpoint's record true."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.highest = 0

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        except VedetteError:
            pass  # refusals are fine; what they leave behind is checked below

    @rule(version=st.integers(1, 3))
    def create(self, version: int) -> None:
        self._try(lambda: self.world.deployments.create("e", draft(version)))

    @rule(version=st.integers(1, 3))
    def update(self, version: int) -> None:
        self._try(lambda: self.world.deployments.update("e", draft(version)))

    @rule(act=st.sampled_from(["start", "stop", "rollback", "delete"]))
    def command(self, act: str) -> None:
        self._try(lambda: getattr(self.world.deployments, act)("e"))

    @rule(
        replica=st.sampled_from(["r1", "r2"]),
        state=st.sampled_from(["loading", "ready", "ready", "failed", "removed"]),
        back=st.integers(0, 1),
    )
    def replica_reports(self, replica: str, state: str, back: int) -> None:
        self._try(lambda: self.world.say(state, max(1, self._generation() - back), "why", replica=replica))

    @rule(seconds=st.sampled_from([1.0, LEASE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.world.replicas.sweep()

    def _generation(self) -> int:
        return self.world.deployments.get("e").generation

    @invariant()
    def record_is_true(self) -> None:
        with self.world.catalog.read() as view:
            changes = [change for change in view.changes(0, 10_000) if change.endpoint == "e"]
            try:
                endpoint = view.endpoint("e")
            except NotFound:
                assert not changes or changes[-1].deployment is None
                return
            last = changes[-1].deployment if changes else None
            wanted = view.generation("e", endpoint.generation)
        assert wanted.config == endpoint.config
        assert endpoint.serving == (last is not None)
        if last is not None:
            assert (last.generation, last.config) == (endpoint.generation, endpoint.config)
            assert {(v.model, v.version) for v in last.versions} == {
                (ref.model, ref.version) for ref in endpoint.config.references()
            }
        assert endpoint.serving_generation <= endpoint.generation
        if endpoint.status is EndpointStatus.IN_SERVICE:
            assert endpoint.serving_generation == endpoint.generation
        out = {EndpointStatus.OUT_OF_SERVICE, EndpointStatus.DELETING}
        assert endpoint.serving == (endpoint.status not in out)


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLives = Lives.TestCase
