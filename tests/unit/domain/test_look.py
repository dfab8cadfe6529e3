"""What a move rests on and was not looked at yet."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from incident_rollback.crd.v1alpha1 import Phase, Policy
from incident_rollback.domain.decision import decide
from incident_rollback.domain.look import MAX_REFERENCES, what_to_look_at
from incident_rollback.domain.observation import Observation
from incident_rollback.domain.surroundings import Referent, Surroundings, Trial
from incident_rollback.domain.workload import Pod, Revision, Workload
from tests.builders import (
    NOW,
    a_broken_pod,
    a_condition,
    a_pod,
    a_revision,
    a_rollback,
    a_template,
    a_workload,
    after,
    ago,
    an_observation,
    claimed,
    frozen,
    hash_of,
    image_of,
    outcome,
    timed_out,
    undone,
)

TRIED = Surroundings(trials={hash_of(1): Trial("Accepted")})
ASKS = Policy(approval="Required")

TRIALS = [
    pytest.param(an_observation(), 1, id="a claim rests on a trial"),
    pytest.param(an_observation(a_rollback(dry_run=True)), 1, id="so does a preview"),
    pytest.param(an_observation(policy=ASKS), 1, id="and a plan that somebody shall approve"),
    pytest.param(
        an_observation(a_rollback(plan_digest="sha256:" + "0" * 64)),
        1,
        id="and a plan that has changed",
    ),
    pytest.param(an_observation(around=TRIED), None, id="a trial is made once"),
    pytest.param(an_observation(workload=a_workload(is_paused=True)), None, id="a wait needs none"),
    pytest.param(an_observation(claimed()), None, id="after the claim the patch itself will tell"),
    pytest.param(an_observation(workload=undone()), None, id="an end needs none"),
]


@pytest.mark.parametrize(("seen", "number"), TRIALS)
def test_which_revision_is_tried(seen: Observation, number: int | None) -> None:
    look = what_to_look_at(seen, decide(seen))
    tried = look.trial_of if look else None
    assert (tried.number if tried else None) == number


def test_a_refusal_leads_to_the_next_trial_and_to_an_end() -> None:
    refused = Surroundings(trials={hash_of(1): Trial("Rejected", "no")})
    seen = an_observation(around=refused)
    assert what_to_look_at(seen, decide(seen)) is None


def needing(number: int, *names: str, available: int = 0) -> Revision:
    """Return a revision whose pods need these Secrets."""
    sources = [{"secretRef": {"name": name}} for name in names]
    template = a_template(image_of(number), envFrom=sources)
    return a_revision(number, template=template, available=available)


def a_choice_of(*older: Revision) -> Observation:
    return an_observation(workload=a_workload(needing(9, "of-the-live-one"), *older))


def play(seen: Observation, found: Mapping[str, Referent]) -> Iterator[set[str] | str]:
    """Yield the names that are looked for, look after look, and what comes of it."""
    while (look := what_to_look_at(seen, move := decide(seen))) is not None:
        names = {reference.name for reference in look.references}
        yield names
        behind = {r: found.get(r.name, Referent()) for r in look.references}
        tried = {look.trial_of.pod_template_hash: Trial("Accepted")} if look.trial_of else {}
        around = Surroundings(
            references={**seen.around.references, **behind},
            trials={**seen.around.trials, **tried},
            warnings={**seen.around.warnings, **dict.fromkeys(look.warnings)},
            nodes={**seen.around.nodes, **dict.fromkeys(look.nodes)},
        )
        assert around != seen.around  # Each look makes something known, so it ends.
        seen = replace(seen, around=around)
    yield outcome(move)


GONE, CHANGED = Referent(is_there=False), Referent(changed_at=NOW)
NOTHING: set[str] = set()
THREE = (needing(8, "a", "b", available=3), needing(7, "a", "c"), needing(6, "d"))
LOOKS: list[Any] = [
    pytest.param(a_choice_of(*THREE), {}, [{"a", "b"}, "Claim 8"],
                 id="what the chosen one needs, and nothing more"),
    pytest.param(a_choice_of(*THREE), {"b": GONE}, [{"a", "b"}, {"c", "d"}, "Claim 7"],
                 id="P7 it did not hold: what all the others need, at once"),
    pytest.param(a_choice_of(*THREE), {"a": GONE}, [{"a", "b"}, {"c", "d"}, "Claim 6"],
                 id="P7 the next one needs it too: the one after that"),
    pytest.param(a_choice_of(*THREE), {"b": GONE, "c": GONE, "d": GONE},
                 [{"a", "b"}, {"c", "d"}, "Refuse NothingToRollBackTo"],
                 id="P7 nothing holds: two looks are enough"),
    pytest.param(a_choice_of(*THREE), dict.fromkeys("abcd", Referent(is_there=None)),
                 [{"a", "b"}, "Claim 8"], id="P7 what could not be looked at is asked for once"),
    pytest.param(a_choice_of(*THREE), dict.fromkeys("ab", CHANGED), [{"a", "b"}, "Claim 8"],
                 id="P8 changed, and its pods serve"),
    pytest.param(a_choice_of(needing(8, "a"), needing(7, "b")), {"a": CHANGED},
                 [{"a"}, {"b"}, "Claim 7"], id="P8 changed: the next one is looked at"),
    pytest.param(a_choice_of(needing(8, "a"), needing(7, "b")), {"a": CHANGED, "b": CHANGED},
                 [{"a"}, {"b"}, "Claim 8"], id="P8 changed for both: the first one after all"),
    pytest.param(a_choice_of(needing(8, available=3), needing(7, "a")), {}, [NOTHING, "Claim 8"],
                 id="the chosen one needs nothing"),
    pytest.param(replace(a_choice_of(*THREE), rollback=a_rollback(to={"revision": 7})),
                 {"c": GONE}, [{"a", "c"}, "Refuse ApprovalRequired"],
                 id="P7 of one that was asked for only what that needs"),
    pytest.param(replace(a_choice_of(*THREE), rollback=a_rollback(dry_run=True)), {"b": GONE},
                 [{"a", "b"}, {"c", "d"}, "Preview 7"], id="P7 a preview looks as closely"),
    pytest.param(an_observation(workload=a_workload(*THREE, is_paused=True)), {},
                 ["Wait Paused"], id="a wait rests on none of it"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "found", "story"), LOOKS)
def test_what_is_looked_for(
    seen: Observation, found: Mapping[str, Referent], story: list[set[str] | str]
) -> None:
    assert list(play(seen, found)) == story


def test_what_one_look_has_no_room_for_is_left_to_the_next_and_nothing_is_passed_by() -> None:
    many = [f"s{number:03}" for number in range(MAX_REFERENCES + 1)]
    older = (needing(8, *many), needing(7, *many[::-1], "x"), needing(6, "w"))
    *looks, end = play(a_choice_of(*older), {many[-1]: GONE, "w": GONE})
    assert [len(names) for names in looks] == [MAX_REFERENCES, 3]
    assert end == "Refuse NothingToRollBackTo"


WAITED = a_workload(needing(9), needing(1, "a"))


def test_a_claim_that_has_waited_looks_again_for_what_its_target_needs() -> None:
    seen = an_observation(claimed(from_=frozen(9)), WAITED)
    assert list(play(seen, {})) == [{"a"}, "Restore 1"]
    assert list(play(seen, {"a": GONE})) == [{"a"}, "Refuse NothingToRollBackTo"]


def test_whoever_approved_the_plan_knew_what_was_gone() -> None:
    approved = a_rollback(plan_digest="sha256:" + "0" * 64)
    claim = approved.model_copy(update={"status": claimed(from_=frozen(9)).status})
    assert list(play(an_observation(claim, WAITED), {"a": GONE})) == [{"a"}, "Restore 1"]


CRASHING = a_broken_pod(reason="CrashLoopBackOff", uid="p-1")
SILENT = a_pod(is_ready=False, ready_since=None, uid="p-2", node="n-1")
UNMADE = a_revision(2, desired=3, failure="exceeded quota")
LOOKED_AT = Surroundings(warnings={"p-1": None, "p-2": None}, nodes={"n-1": None})


def failing(*pods: Pod, **changes: Any) -> Workload:
    return a_workload(pods=pods, **changes)


def restored(*pods: Pod, **changes: Any) -> Workload:
    """Return the workload after the patch, with pods of what was restored."""
    return undone(health="starting", pods=pods, **changes)


OLD_CRASHING = replace(CRASHING, pod_template_hash=hash_of(1))
GAVE_UP = restored(OLD_CRASHING, progress=timed_out(after(seconds=1)))
ENDED = claimed(
    Phase.SUCCEEDED,
    patched_at=ago(minutes=2),
    healthy_since=ago(minutes=1),
    finished_at=NOW,
    conditions=(a_condition("Ready", "True", "RolledBack"),),
)
SYMPTOMS: list[Any] = [
    pytest.param(an_observation(workload=failing(CRASHING)), {"p-1"}, NOTHING,
                 id="a claim: the pod that shows it, and no node, for it says itself why"),
    pytest.param(an_observation(workload=failing(SILENT)), {"p-2"}, {"n-1"},
                 id="a pod that says nothing: its node as well"),
    pytest.param(an_observation(workload=failing(CRASHING, CRASHING, SILENT)), {"p-1"}, {"n-1"},
                 id="of the most frequent trouble"),
    pytest.param(an_observation(workload=a_workload(UNMADE, a_revision(1), pods=())), {UNMADE.uid},
                 NOTHING, id="D5 no pod is made: who cannot make them"),
    pytest.param(an_observation(workload=a_workload(UNMADE, a_revision(1), pods=(CRASHING,))),
                 {"p-1", UNMADE.uid}, NOTHING, id="D5 some are made: both"),
    pytest.param(an_observation(a_rollback(dry_run=True), failing(CRASHING)), {"p-1"}, NOTHING,
                 id="a preview"),
    pytest.param(an_observation(workload=failing(CRASHING), policy=ASKS), {"p-1"}, NOTHING,
                 id="a plan that somebody shall approve"),
    pytest.param(an_observation(workload=restored(OLD_CRASHING)), {"p-1"}, NOTHING,
                 id="what somebody rolled back, and it is not healthy"),
    pytest.param(an_observation(claimed(patched_at=NOW), GAVE_UP), {"p-1"}, NOTHING,
                 id="a rollback that did not help"),
    pytest.param(an_observation(ENDED, restored(OLD_CRASHING)), {"p-1"}, NOTHING,
                 id="a crash within the hold"),
    pytest.param(an_observation(workload=failing(CRASHING, SILENT), around=LOOKED_AT), NOTHING,
                 NOTHING, id="D9 nothing is looked at twice, seen or not"),
    pytest.param(an_observation(workload=a_workload(health="healthy")), NOTHING, NOTHING,
                 id="all are ready"),
    pytest.param(an_observation(workload=failing(a_broken_pod())), NOTHING, NOTHING,
                 id="what has no uid cannot be asked about"),
    pytest.param(an_observation(claimed(patched_at=NOW), restored(OLD_CRASHING)), NOTHING, NOTHING,
                 id="while it is watched nobody is told"),
    pytest.param(an_observation(workload=failing(CRASHING, is_paused=True)), NOTHING, NOTHING,
                 id="a wait"),
    pytest.param(an_observation(claimed(patched_at=NOW), failing(CRASHING)), NOTHING, NOTHING,
                 id="what came over it"),
    pytest.param(an_observation(ENDED, failing(CRASHING)), NOTHING, NOTHING,
                 id="what came over it within the hold"),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "warnings", "nodes"), SYMPTOMS)
def test_which_symptoms_are_looked_at(
    seen: Observation, warnings: set[str], nodes: set[str]
) -> None:
    look = what_to_look_at(seen, decide(seen))
    assert (look.warnings if look else NOTHING) == warnings
    assert (look.nodes if look else NOTHING) == nodes


def test_v20_what_the_next_one_needs_is_looked_for_before_it_is_named() -> None:
    target = a_revision(4, history=(2,), created_at=ago(days=2))
    bad = a_revision(3, created_at=ago(minutes=9))
    workload = a_workload(
        target,
        bad,
        needing(1, "a", available=1),
        health="starting",
        progress=timed_out(after(seconds=1)),
    )
    to = frozen(2, pod_template_hash=target.pod_template_hash)
    seen = an_observation(claimed(patched_at=NOW, to=to), workload)
    looks = list(play(seen, {}))
    assert looks[0] == {"a"}
    assert looks[-1] == "Fail ProgressDeadlineExceeded"


def test_v20_without_a_next_one_nothing_is_looked_for() -> None:
    seen = an_observation(claimed(patched_at=NOW), GAVE_UP)
    look = what_to_look_at(seen, decide(seen))
    assert look is not None
    assert not look.references
