"""
A controller that dies before or after any of its effects, and another that goes on.

Which effects there are is not written down: a story is played without a death first, and then again
for each effect that was counted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from incident_rollback.crd.v1alpha1 import FINAL_PHASES
from incident_rollback.domain.workload import Workload
from incident_rollback.ports import Cluster, Leases, Store, Timeline
from tests.builders import a_revision, a_rollback, a_workload, timed_out
from tests.chaos.checker import judge
from tests.chaos.fate import READS, Death
from tests.chaos.memory import Story, World, live
from tests.fakes.cluster import rolled_out
from tests.unit.controller.fast_time import SteppedLoop

# --- The stories


def partly(world: World, ready: int) -> Callable[[Workload], Workload]:
    """So many pods of the new template are ready, and the others are not."""

    def happens(workload: Workload) -> Workload:
        done = rolled_out(replace(workload, wanted=3), world.clock.now())
        pods = tuple(
            pod if number < ready else replace(pod, is_ready=False, ready_since=None)
            for number, pod in enumerate(done.pods)
        )
        return replace(done, ready=ready, available=ready, pods=pods)

    return happens


async def one_pod_each_twenty_seconds(world: World) -> None:
    await world.until(lambda: bool(world.cluster.restored))
    for ready in (0, 1, 2, 3):
        world.change(partly(world, ready))
        await asyncio.sleep(20)


async def no_pod_becomes_ready(world: World) -> None:
    await world.until(lambda: bool(world.cluster.restored))
    world.change(partly(world, 0))
    await asyncio.sleep(10)
    world.change(lambda workload: replace(workload, progress=timed_out(world.clock.now())))


async def resumed(world: World) -> None:
    await asyncio.sleep(20)
    world.change(lambda workload: replace(workload, is_paused=False))


async def allowed(world: World) -> None:
    await asyncio.sleep(20)
    world.cluster.forbids = False


async def reverted_after_the_end(world: World) -> None:
    await world.until(lambda: world.stored.status.phase in FINAL_PHASES)
    await asyncio.sleep(3)
    world.change(lambda workload: redeployed(world, workload))


def redeployed(world: World, workload: Workload) -> Workload:
    """Somebody has brought the bad release back."""
    now = world.clock.now()
    written = replace(
        workload,
        template=a_revision(2).template,
        generation=workload.generation + 1,
        template_written_at=now,
        template_writer="kubectl-rollout",
        marker=None,
    )
    return rolled_out(written, now)


BAD: Final = a_workload()
SUCCEEDS: Final = "Succeeded RolledBack"
STORIES: Final = {
    "healthy at once": Story(SUCCEEDS, BAD),
    "healthy pod by pod": Story(
        SUCCEEDS, BAD, rolls_out=False, happens=one_pod_each_twenty_seconds
    ),
    "never healthy": Story(
        "Failed ProgressDeadlineExceeded", BAD, rolls_out=False, happens=no_pod_becomes_ready
    ),
    "refused": Story("Refused OptedOut", replace(BAD, opted_out="not tonight")),
    "waited for": Story(SUCCEEDS, replace(BAD, is_paused=True), happens=resumed),
    "waited for after the claim": Story(SUCCEEDS, BAD, forbids=True, happens=allowed),
    "reverted after the end": Story(SUCCEEDS, BAD, happens=reverted_after_the_end),
    "a dry run": Story("Previewed Previewed", BAD, asked=a_rollback(dry_run=True)),
}
EFFECTS: Final = {
    "the Lease: made",
    "the Lease: renewed",
    "the Lease: let go of",
    "the patch",
    "the status: waiting",
    "the status: claimed",
    "the status: watched",
    "the status: told",
    "the status: ended",
    "the status: held",
    "the status: settled",
    "the status of the environment",
    "a note",
    "the message",
    "an edit of the message",
    "the change event",
    "its relation",
    "an Event on the Deployment: RollbackStarted",
    "an Event on the Deployment: RollbackSucceeded",
    "an Event on the Deployment: RollbackFailed",
    "an Event on the IncidentRollback: RollbackSucceeded",
    "an Event on the IncidentRollback: RollbackFailed",
    "an Event on the IncidentRollback: RollbackRefused",
    "an Event on the IncidentRollback: RollbackPreviewed",
}
"""What has to be among what is counted; anything else that is counted is died at all the same."""


# --- The matrix


def play(story: Story, death: Death | None = None, *, has_standby: bool = False) -> World:
    """Play a story in a loop of its own: nothing of it is left for the next one."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        return runner.run(live(story, death, has_standby=has_standby))


def wrong_with(world: World, undisturbed: World) -> list[str]:
    """Say what is wrong after a death, and whether there was none."""
    wrong = list(judge(world.record()).violations)
    if world.outcome() != undisturbed.outcome():
        wrong.append(f"{world.outcome()} instead of {undisturbed.outcome()}")
    if not world.first.is_dead:
        wrong.append("nobody died")
    return wrong


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, World]:
    """Each story as it goes when nobody dies."""
    return {name: play(story) for name, story in STORIES.items()}


@pytest.mark.parametrize("name", STORIES)
def test_where_nobody_dies(undisturbed: dict[str, World], name: str) -> None:
    world = undisturbed[name]
    assert world.outcome().end == STORIES[name].end
    assert judge(world.record()).violations == ()
    assert not world.first.is_dead


@pytest.mark.parametrize("is_standby", [False, True], ids=["a new one", "one that stood by"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STORIES)
def test_dead_at_any_effect_another_goes_on(
    undisturbed: dict[str, World],
    name: str,
    is_after: bool,
    is_standby: bool,
) -> None:
    wrong: dict[str, list[str]] = {}
    for death in undisturbed[name].first.fate.deaths(is_after=is_after):
        world = play(STORIES[name], death, has_standby=is_standby)
        wrong[str(death)] = wrong_with(world, undisturbed[name])
    assert {at: what for at, what in wrong.items() if what} == {}


# --- That it is all of them


def test_every_kind_of_effect_is_among_them(undisturbed: dict[str, World]) -> None:
    counted = {effect for world in undisturbed.values() for effect in world.first.effects}
    assert EFFECTS - counted == set()


PORTS: Final = (Store, Cluster, Timeline, Leases)
BY_THE_BRIDGE: Final = "create"


def test_whatever_a_port_can_do_is_counted_or_only_reads(undisturbed: dict[str, World]) -> None:
    """A method that is new and not called here makes this fail: no story has it yet."""
    methods = {name for port in PORTS for name in vars(port) if not name.startswith("_")}
    assert READS - methods == set()
    called = {name for world in undisturbed.values() for name in world.first.fate.methods}
    assert methods - READS - called == {BY_THE_BRIDGE}
