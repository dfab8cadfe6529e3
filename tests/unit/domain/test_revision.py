"""Which revision to go back to; `S…` are the scenarios of docs/scenarios.md."""

from typing import Any

import pytest

from incident_rollback.clients.translate import to_workload
from incident_rollback.crd.v1alpha1 import MAX_CANDIDATES, Aim
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.raw import Json
from incident_rollback.domain.revision import Choice, choose_revision
from incident_rollback.domain.surroundings import Reference, Referent, Surroundings, Trial
from incident_rollback.domain.workload import Revision, Workload
from tests.builders import NOW, a_revision, a_template, a_workload, ago, hash_of, image_of
from tests.unit.clients.raw_objects import a_deployment, a_replica_set
from tests.unit.clients.raw_objects import a_template as a_raw_template

LIVE_5 = a_revision(5, created_at=ago(minutes=10))


def on_top_of(*older: Revision) -> Workload:
    """Return a workload whose newest revision, 5, is the bad one."""
    return a_workload(LIVE_5, *older)


def a_past(number: int, days: float = 0, **changes: Any) -> Revision:
    """Return a revision that was made so many days ago; by default 5 minus its number, and 1."""
    return a_revision(number, created_at=ago(days=days or 6 - number), **changes)


def chosen(workload: Workload) -> Choice:
    choice = choose_revision(workload, None, ago(minutes=5))
    assert isinstance(choice, Choice)
    return choice


TOGGLED = a_workload(
    a_revision(5, created_at=ago(minutes=10)),
    a_past(4, history=(1,), days=9),  # back on A, when B was bad
    a_past(2, days=8),
)

CHOICES = [
    pytest.param(a_workload(), 1, True, id="S1 good, then bad: the good one"),
    pytest.param(
        on_top_of(a_past(4, days=0.02), a_past(3)), 3, True, id="S2 A, B bad, C bad: A, which dwelt"
    ),
    pytest.param(TOGGLED, 4, True, id="S2 A, B bad, back to A, C bad: A again, never B"),
    pytest.param(
        on_top_of(a_past(4), a_past(3, available=2)), 3, True, id="S3 pods that serve beat a number"
    ),
    pytest.param(
        on_top_of(a_past(3, history=(1,), days=9), a_past(2, days=8, available=3)),
        3,
        True,
        id="S4 it was rolled back from: that is known later than that its pods serve",
    ),
    pytest.param(
        on_top_of(a_past(4, days=0.06), a_past(3)),
        4,
        True,
        id="among those that dwelt, the newest",
    ),
    pytest.param(
        a_workload(a_revision(3, like=2, restarted="now"), a_revision(2), a_past(1)),
        1,
        True,
        id="S5 live, restarted: the revision before the restart is no other one",
    ),
    pytest.param(
        on_top_of(a_past(4, like=3, restarted="now", days=0.02), a_past(3), a_past(2, available=0)),
        4,
        True,
        id="S5 the good one was restarted just before: it has dwelt all the same",
    ),
    pytest.param(
        a_workload(a_revision(11), a_past(10, days=2), a_past(9, days=3)),
        10,
        True,
        id="S6 10 is newer than 9",
    ),
    pytest.param(
        on_top_of(a_past(0, days=2), a_past(4, days=3)), 4, True, id="S7 one without a number"
    ),
    pytest.param(
        on_top_of(
            a_past(4, like=3, pod_template_hash="newer", available=1),
            a_past(3, pod_template_hash="older", available=2),
        ),
        3,
        True,
        id="S9 of functionally equal ones the one whose pods serve",
    ),
    pytest.param(
        on_top_of(a_past(4, days=0.02), a_past(3, days=0.03)),
        4,
        False,
        id="S11 nothing dwelt or serves: the newest, unproven",
    ),
    pytest.param(
        a_workload(
            a_revision(5, created_at=ago(minutes=1)),
            a_past(4, days=0.04, available=3),
            a_past(3, days=0.05),
        ),
        3,
        False,
        id="first current less than an hour before the incident: only if nothing else is left",
    ),
    pytest.param(
        a_workload(a_revision(2, created_at=ago(minutes=1)), a_past(1, days=0.01, available=3)),
        1,
        True,
        id="first current during the incident, and nothing else is left",
    ),
]


@pytest.mark.parametrize(("workload", "number", "is_proven"), CHOICES)
def test_the_last_healthy_revision(workload: Workload, number: int, is_proven: bool) -> None:
    choice = chosen(workload)
    assert (choice.revision.number, choice.is_proven) == (number, is_proven)
    assert ("unproven" in choice.why) is not is_proven


EARLY, LATE = "2026-11-19T08:00:00Z", "2026-11-20T08:00:00Z"
DUPLICATES = [
    pytest.param([EARLY, LATE], EARLY, id="S9 of exact duplicates the oldest"),
    pytest.param([LATE, EARLY], EARLY, id="S9 in whatever order they are listed"),
]


@pytest.mark.parametrize(("created", "oldest"), DUPLICATES)
def test_of_two_replica_sets_alike_kubernetes_takes_the_oldest(
    created: list[str], oldest: str
) -> None:
    alike = [a_replica_set("1", pod_hash=at[:10], created=at) for at in created]
    bad = a_replica_set("2", "nginx:latest", pod_hash="bad")
    workload = to_workload(a_deployment(), [bad, *alike], [])
    assert chosen(workload).revision.pod_template_hash == oldest[:10]


NO_CANDIDATES = [
    pytest.param(a_replica_set("3", pod_hash="x", owner="another"), id="S8 another's ReplicaSet"),
    pytest.param(a_replica_set("3", pod_hash="x", owner=""), id="S8 an orphan"),
    pytest.param(a_replica_set("three", pod_hash="x"), id="S7 its number is garbage"),
    pytest.param(a_replica_set(None, pod_hash="x"), id="S7 its number is missing"),
]


@pytest.mark.parametrize("stranger", NO_CANDIDATES)
def test_strangers_and_garbage_are_no_candidates(stranger: Json) -> None:
    """As the API server lists them: it matches the selector, and its pods are available."""
    stranger["spec"]["template"] = a_raw_template("nginx:1.20.0")
    bad = a_replica_set("4", "nginx:latest", pod_hash="bad")
    good = a_replica_set("1", "nginx:1.18.0", pod_hash="good")
    choice = chosen(to_workload(a_deployment(), [bad, stranger, good], []))
    assert choice.revision.pod_template_hash == "good"
    assert [c.revision for c in choice.candidates] == [1]


DWELL = [
    pytest.param(59, False, id="59 minutes are not an hour"),
    pytest.param(60, True, id="an hour is"),
]


@pytest.mark.parametrize(("minutes", "is_proven"), DWELL)
def test_it_is_trusted_after_an_hour(minutes: int, is_proven: bool) -> None:
    choice = chosen(a_workload(LIVE_5, a_revision(4, created_at=ago(minutes=10 + minutes))))
    assert choice.is_proven is is_proven


SUSPECT = [
    pytest.param(65, 4, id="an hour before the incident to the second: not suspect"),
    pytest.param(64, 3, id="less than an hour before: suspect"),
]


@pytest.mark.parametrize(("minutes", "number"), SUSPECT)
def test_what_came_in_the_hour_before_the_incident_is_suspect(minutes: int, number: int) -> None:
    """The incident began 5 minutes ago; revision 3 has nothing to show but its age."""
    new = a_revision(4, created_at=ago(minutes=minutes), available=3)
    old = a_revision(3, created_at=ago(minutes=minutes + 1))
    assert chosen(a_workload(LIVE_5, new, old)).revision.number == number


REFUSALS = [
    pytest.param(a_workload(a_revision(2)), "no other revision", id="S12 a single revision"),
    pytest.param(
        a_workload(a_revision(2), a_revision(0)), "no other revision", id="S11 none with a number"
    ),
    pytest.param(
        a_workload(a_revision(2), a_revision(1, like=2, restarted="then")),
        "no other revision",
        id="S5 nothing but restarts of the live one",
    ),
    pytest.param(
        a_workload(a_revision(3, history=(1,)), a_revision(2)),
        "somebody rolled back from it",
        id="S13 all that is left is marked bad",
    ),
]


@pytest.mark.parametrize(("workload", "why"), REFUSALS)
def test_nothing_to_roll_back_to(workload: Workload, why: str) -> None:
    refusal = choose_revision(workload, None, NOW)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == "NothingToRollBackTo"
    assert why in refusal.message


EXPLICIT = [
    pytest.param(Aim(revision=4), 4, id="by number"),
    pytest.param(Aim(pod_template_hash=hash_of(3)), 3, id="by hash"),
]


@pytest.mark.parametrize(("aim", "number"), EXPLICIT)
def test_what_was_asked_for_is_taken_whatever_it_is(aim: Aim, number: int) -> None:
    workload = on_top_of(a_past(4, days=0.01), a_past(3, days=0.02))
    choice = choose_revision(workload, aim, NOW)
    assert isinstance(choice, Choice)
    assert choice.revision.number == number
    assert choice.why.startswith("it was asked for; ")
    assert [c.verdict for c in choice.candidates] == ["Chosen"]


def test_one_that_was_rolled_back_from_may_be_asked_for() -> None:
    workload = a_workload(a_revision(3, history=(1,)), a_revision(2))
    choice = choose_revision(workload, Aim(revision=2), NOW)
    assert isinstance(choice, Choice)


NOT_THERE = [
    pytest.param(Aim(revision=9), "no revision 9 in its history", id="S16 no such number"),
    pytest.param(
        Aim(pod_template_hash="gone"), "no pod-template-hash gone in its history", id="S16 no hash"
    ),
    pytest.param(
        Aim(revision=1),
        "what was revision 1 is revision 3 now",
        id="S16 a number that has moved is followed in words only",
    ),
]


@pytest.mark.parametrize(("aim", "words"), NOT_THERE)
def test_an_explicit_revision_that_is_not_there_is_refused(aim: Aim, words: str) -> None:
    workload = a_workload(a_revision(4), a_revision(3, history=(1,)), a_revision(2))
    refusal = choose_revision(workload, aim, NOW)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == "RevisionNotFound"
    assert words in refusal.message
    assert "kubectl rollout history deploy/checkout -n production" in refusal.fix


PASSED_OVER = [
    pytest.param(
        a_past(4, days=0.01), "it was first live during the incident or less than", id="too new"
    ),
    pytest.param(a_past(2, available=0), "no pod of it serves", id="serves not"),
]


@pytest.mark.parametrize(("other", "why"), PASSED_OVER)
def test_whoever_is_passed_over_has_a_reason(other: Revision, why: str) -> None:
    revisions = sorted([other, a_past(3, available=3)], key=lambda r: -r.number)
    verdicts = {c.revision: c for c in chosen(on_top_of(*revisions)).candidates}
    assert verdicts[3].verdict == "Chosen"
    assert verdicts[other.number].verdict == "PassedOver"
    assert why in verdicts[other.number].why


IN_A_ROW = a_workload(
    LIVE_5,
    a_past(4, like=3, restarted="now", days=0.012),
    a_past(3, days=0.014),
    a_past(2, days=0.016),
    a_past(1, days=6, available=3),
)
TOO_NEW = "it was first live during the incident or less than an hour before"
STORIES = [
    pytest.param(
        IN_A_ROW,
        [(4, TOO_NEW), (2, TOO_NEW), (1, "3 pods of it still serve")],
        id="S2 good, bad, bad, restart-only, bad: the good one, and the restart is no other one",
    ),
    pytest.param(
        on_top_of(a_past(3, history=(1,), days=9), a_past(2, days=8)),
        [(3, "it ran 1 d before it was replaced"), (2, "somebody rolled back from it")],
        id="S2 good, bad, back, bad: the good one, and the first bad one is known to be bad",
    ),
]


@pytest.mark.parametrize(("workload", "said"), STORIES)
def test_every_candidate_says_why_or_why_not(
    workload: Workload, said: list[tuple[int, str]]
) -> None:
    candidates = chosen(workload).candidates
    assert [(c.revision, c.why) for c in candidates] == said
    assert [c.revision for c in candidates if c.verdict == "Chosen"] == [
        chosen(workload).revision.number
    ]


def test_reasons_among_those_that_do_not_serve() -> None:
    choice = chosen(on_top_of(a_past(4, days=0.06), a_past(3), a_past(2, days=4)))
    assert [(c.revision, c.why) for c in choice.candidates] == [
        (4, "it ran 1 h 16 min before it was replaced"),
        (3, "it is older"),
        (2, "it is older"),
    ]
    short = chosen(on_top_of(a_past(4, days=0.05, available=0), a_past(3, days=0.0501), a_past(2)))
    assert (3, "it was not live for an hour") in [(c.revision, c.why) for c in short.candidates]


def test_candidates_are_bounded() -> None:
    many = [a_revision(n, created_at=ago(days=100 - n)) for n in range(40, 0, -1)]
    assert len(chosen(a_workload(*many)).candidates) == MAX_CANDIDATES


# --- What the cluster says to the very patch; how far back it goes by itself

REFUSED = Trial("Rejected", "policy 'signed' denied request: not signed")
SERVING = (a_past(4, available=3), a_past(3), a_past(2))
QUICK = (a_past(4, available=3), a_past(3, days=0.03), a_past(2, days=0.05))


def tried(*numbers: int, trial: Trial = REFUSED) -> Surroundings:
    return Surroundings(trials={hash_of(number): trial for number in numbers})


TRIED = [
    pytest.param(SERVING, tried(), 4, id="nothing was tried yet: the best"),
    pytest.param(SERVING, tried(4, trial=Trial("Accepted")), 4, id="P10 what is accepted stays"),
    pytest.param(SERVING, tried(4), 3, id="P10 refused: the next one that can be trusted"),
    pytest.param(SERVING, tried(4, 3), 2, id="P10 two are refused: the third"),
    pytest.param(SERVING, tried(4, trial=Trial("Unknown", "x")), 4, id="P11 unknown is no refusal"),
    pytest.param(
        (*SERVING, a_past(1)), tried(4, 3, 2), "Rejected", id="P10 three are refused: it is enough"
    ),
    pytest.param(QUICK, tried(4), "Rejected", id="P10 the next one is unproven: a person decides"),
    pytest.param((a_past(4),), tried(4), "Rejected", id="P10 there is no other one"),
]


@pytest.mark.parametrize(("older", "around", "expected"), TRIED)
def test_a_revision_that_the_cluster_refuses(
    older: tuple[Revision, ...], around: Surroundings, expected: int | str
) -> None:
    found = choose_revision(on_top_of(*older), None, ago(minutes=5), around)
    if isinstance(found, Refuse):
        assert found.reason == expected
        assert REFUSED.message in found.message
        return
    assert found.revision.number == expected
    told = {c.revision for c in found.candidates if c.why.endswith(REFUSED.message)}
    assert told == {n for n in (4, 3, 2) if around.trials.get(hash_of(n)) == REFUSED}


def test_what_could_not_be_tried_is_said() -> None:
    around = tried(4, trial=Trial("Unknown", "webhook p does not support dry run"))
    found = choose_revision(on_top_of(*SERVING), None, ago(minutes=5), around)
    assert isinstance(found, Choice)
    assert found.why == ("3 pods of it still serve; not tried: webhook p does not support dry run")
    assert found.may_patch


BOUNDS = [
    pytest.param((a_past(4, days=0.02), a_past(3)), 2, 3, id="within the bound"),
    pytest.param(
        (a_past(4, days=0.02), a_past(3)), 1, 4, id="what is too far back is never chosen"
    ),
    pytest.param(
        (a_past(4, days=0.02), a_past(3, available=3)), 1, 3, id="but when its pods serve now"
    ),
    pytest.param(
        (a_past(4, like=5, restarted="then"), a_past(3)), 1, 3, id="a restart is no step back"
    ),
]


@pytest.mark.parametrize(("older", "bound", "number"), BOUNDS)
def test_how_far_back_it_goes_by_itself(
    older: tuple[Revision, ...], bound: int, number: int
) -> None:
    found = choose_revision(on_top_of(*older), None, ago(minutes=5), None, bound)
    assert isinstance(found, Choice)
    assert found.revision.number == number
    if number == 4:
        assert found.candidates[1].why == "it is 2 releases back, and only 1 are allowed"
    asked = choose_revision(on_top_of(*older), Aim(revision=3), ago(minutes=5), None, bound)
    assert isinstance(asked, Choice)
    assert asked.revision.number == 3


# --- The other objects that its pods need


def secret(name: str = "keys") -> Json:
    return {"secretRef": {"name": name}}


def config(name: str = "settings") -> Json:
    return {"configMapRef": {"name": name}}


def in_need(number: int, *sources: Json, **changes: Any) -> Revision:
    """Return a past revision whose pods need these Secrets and ConfigMaps."""
    template = a_template(image_of(number), envFrom=list(sources))
    return a_past(number, template=template, **changes)


KEYS, SETTINGS = Reference("Secret", "keys"), Reference("ConfigMap", "settings")
GONE, HIDDEN, THERE = Referent(is_there=False), Referent(is_there=None), Referent()


def found(*named: tuple[Reference, Referent]) -> Surroundings:
    return Surroundings(references=dict(named))


def among(around: Surroundings, *older: Revision) -> Choice:
    choice = choose_revision(on_top_of(*older), None, ago(minutes=5), around)
    assert isinstance(choice, Choice)
    return choice


NEEDS = [
    pytest.param(found((KEYS, GONE)), 3, "it needs Secret keys, gone by now",
                 id="P7 its Secret is gone: the next one"),
    pytest.param(found((KEYS, THERE)), 4, "3 pods of it still serve", id="P7 what is there stays"),
    pytest.param(found((KEYS, HIDDEN)), 4, "3 pods of it still serve; could not look at Secret "
                 "keys", id="P7 what could not be looked at is no obstacle, and is said"),
    pytest.param(found(), 4, "3 pods of it still serve", id="P7 what nobody has looked at yet"),
    pytest.param(found((SETTINGS, GONE)), 4, "3 pods of it still serve",
                 id="P7 what it does not need may be gone"),
]  # fmt: skip


@pytest.mark.parametrize(("around", "number", "why"), NEEDS)
def test_what_it_needs_must_be_there(around: Surroundings, number: int, why: str) -> None:
    choice = among(around, in_need(4, secret(), available=3), a_past(3))
    assert choice.revision.number == number
    assert choice.missing == ()
    assert (choice.candidates[0].revision, choice.candidates[0].why) == (4, why)


SPECS = [
    pytest.param({"imagePullSecrets": [{"name": "x"}]}, "Secret x", id="P7 a pull Secret"),
    pytest.param({"serviceAccountName": "x"}, "ServiceAccount x", id="P7 a ServiceAccount"),
    pytest.param({"priorityClassName": "x"}, "PriorityClass x", id="P7 a PriorityClass"),
    pytest.param({"runtimeClassName": "x"}, "RuntimeClass x", id="P7 a RuntimeClass"),
    pytest.param(
        {"volumes": [{"persistentVolumeClaim": {"claimName": "x"}}]},
        "PersistentVolumeClaim x",
        id="P7 a claim",
    ),
    pytest.param({"volumes": [{"configMap": {"name": "x"}}]}, "ConfigMap x", id="P7 a ConfigMap"),
]


@pytest.mark.parametrize(("spec", "named"), SPECS)
def test_whatever_kind_is_gone_is_named(spec: Json, named: str) -> None:
    kind, name = named.split()
    around = Surroundings(references={Reference(kind, name): GONE})  # type: ignore[arg-type]
    template = a_template(image_of(4))
    template["spec"].update(spec)
    candidates = among(around, a_past(4, template=template), a_past(3)).candidates
    assert candidates[0].why == f"it needs {named}, gone by now"


def test_p7_when_nothing_is_left_it_names_what_is_gone_and_how_to_go_on() -> None:
    around = found((KEYS, GONE), (SETTINGS, GONE))
    older = (in_need(4, secret(), config()), in_need(3, config()))
    refusal = choose_revision(on_top_of(*older), None, ago(minutes=5), around)
    assert isinstance(refusal, Refuse)
    assert refusal.reason == "NothingToRollBackTo"
    assert refusal.message == (
        "no revision that is left can be trusted (revision 4: it needs ConfigMap settings, Secret "
        "keys, gone by now; revision 3: it needs ConfigMap settings, gone by now)"
    )
    assert refusal.fix == (
        "bring back ConfigMap settings, Secret keys and ask again, or name one yourself: kubectl "
        "irb rollback deploy/checkout -n production --to-revision N"
    )


ASKED = [
    pytest.param(found((KEYS, GONE)), (KEYS,), "Secret keys gone by now", id="P7 it is gone"),
    pytest.param(found((KEYS, THERE)), (), "before it was replaced", id="P7 it is there"),
    pytest.param(found((KEYS, HIDDEN)), (), "could not look at Secret keys", id="P7 it is hidden"),
]


@pytest.mark.parametrize(("around", "missing", "why"), ASKED)
def test_what_was_asked_for_is_chosen_and_says_what_is_missing(
    around: Surroundings, missing: tuple[Reference, ...], why: str
) -> None:
    workload = on_top_of(in_need(4, secret()), a_past(3))
    choice = choose_revision(workload, Aim(revision=4), ago(minutes=5), around)
    assert isinstance(choice, Choice)
    assert (choice.revision.number, choice.missing) == (4, missing)
    assert choice.why.startswith("it was asked for; ")
    assert choice.why.endswith(why)


def test_of_much_that_could_not_be_looked_at_a_few_are_named() -> None:
    names = [f"s{number}" for number in range(9)]
    around = found(*((Reference("Secret", name), HIDDEN) for name in names))
    why = among(around, in_need(4, *map(secret, names))).why
    assert why.endswith("; could not look at Secret s0, Secret s1, Secret s2 and 6 more")


def changed(*minutes: float) -> Surroundings:
    """Revision 5 came 10 minutes ago; its ConfigMap was changed so many minutes ago."""
    return found(*((SETTINGS, Referent(changed_at=ago(minutes=m))) for m in minutes))


SAID = "ConfigMap settings changed when it was replaced or later"
CHANGES = [
    pytest.param(changed(2), True, id="P8 changed after it was replaced"),
    pytest.param(changed(10.5), True, id="P8 changed with the release that replaced it"),
    pytest.param(changed(14.9), True, id="P8 less than five minutes before that"),
    pytest.param(changed(15), False, id="P8 five minutes before, to the second: it ran with that"),
    pytest.param(changed(60 * 24 * 9), False, id="P8 changed before it was ever live"),
    pytest.param(found((SETTINGS, THERE)), False, id="P8 nobody knows when"),
    pytest.param(found((SETTINGS, HIDDEN)), False, id="P8 it could not be looked at"),
]


@pytest.mark.parametrize(("around", "is_said"), CHANGES)
def test_configuration_that_changed_is_said(around: Surroundings, is_said: bool) -> None:
    choice = among(around, in_need(4, config()))
    assert (f"; {SAID}, so it runs with what is there now" in choice.why) is is_said
    asked = choose_revision(
        on_top_of(in_need(4, config())), Aim(revision=4), ago(minutes=5), around
    )
    assert isinstance(asked, Choice)
    assert (SAID in asked.why) is is_said


RANKS = [
    pytest.param(
        (in_need(4, config()), a_past(3)), 3, SAID, id="P8 an older one that nothing changed for"
    ),
    pytest.param(
        (in_need(4, config()), in_need(3, config())),
        4,
        "it is older",
        id="P8 it changed for both: the newest",
    ),
    pytest.param(
        (in_need(4, config(), available=2), a_past(3)),
        4,
        "no pod of it serves",
        id="P8 pods that serve weigh more",
    ),
    pytest.param(
        (in_need(4, config()), a_past(3, days=2.02)),
        4,
        "it was not live for an hour",
        id="P8 an hour of service weighs more",
    ),
]


@pytest.mark.parametrize(("older", "number", "why_not"), RANKS)
def test_configuration_that_changed_lowers_the_rank(
    older: tuple[Revision, ...], number: int, why_not: str
) -> None:
    choice = among(changed(2), *older)
    assert choice.revision.number == number
    (other,) = (c for c in choice.candidates if c.verdict == "PassedOver")
    assert other.why == why_not


OWN = [
    pytest.param(
        on_top_of(in_need(4, config(), days=13 / 1440), a_past(3, days=14 / 1440)),
        changed(13),
        id="P8 what it brought itself, three minutes before it was replaced",
    ),
    pytest.param(
        a_workload(
            LIVE_5,
            a_past(4, history=(2,), days=5),
            in_need(3, config(), days=3),
        ),
        changed(2),
        id="P8 nobody knows when it was replaced: by one that was returned to",
    ),
    pytest.param(
        on_top_of(a_past(4, template={**a_template(image_of(4))}), a_past(3)),
        changed(2),
        id="P8 what it does not use",
    ),
]


@pytest.mark.parametrize(("workload", "around"), OWN)
def test_configuration_that_did_not_change_for_it(workload: Workload, around: Surroundings) -> None:
    for revision in workload.revisions[1:]:
        asked = choose_revision(workload, Aim(revision=revision.number), NOW, around)
        assert isinstance(asked, Choice)
        assert "changed" not in asked.why


def test_p8_a_pull_secret_is_no_configuration() -> None:
    """Some are refreshed every few hours."""
    template = a_template(image_of(4))
    template["spec"]["imagePullSecrets"] = [{"name": "keys"}]
    around = found((KEYS, Referent(changed_at=ago(minutes=2))))
    assert "changed" not in among(around, a_past(4, template=template)).why


def refusal(workload: Workload, around: Surroundings) -> Refuse:
    choice = choose_revision(workload, None, ago(minutes=5), around)
    assert isinstance(choice, Refuse)
    return choice


def test_what_the_cluster_refuses_is_told_revision_by_revision_at_length() -> None:
    no = {hash_of(n): Trial("Rejected", f"no {n} " + "x" * 280) for n in (4, 3, 2)}
    refused = refusal(on_top_of(a_past(4), a_past(3), a_past(2)), Surroundings(trials=no))
    assert refused.reason == "Rejected"
    told = "; ".join(f"revision {n}: no {n} {'x' * 280}" for n in (4, 3, 2))
    assert f"({told})" in refused.message
    assert [c.verdict for c in refused.candidates] == ["PassedOver"] * 3
    assert refused.candidates[0].why.startswith("the cluster refuses it: no 4")


def test_when_the_first_is_refused_and_nothing_is_proven_each_says_why_it_was_not_taken() -> None:
    workload = on_top_of(a_past(4, days=0.03), a_past(3, days=0.05))
    refused = refusal(workload, tried(4))
    assert [(c.revision, c.why.partition(":")[0]) for c in refused.candidates] == [
        (4, "the cluster refuses it"),
        (3, "it is the newest that is left; unproven"),
    ]


def test_when_nothing_can_be_trusted_every_revision_says_why() -> None:
    workload = a_workload(a_revision(3, history=(1,)), a_revision(2))
    nothing = refusal(workload, Surroundings())
    assert [(c.revision, c.why) for c in nothing.candidates] == [
        (2, "somebody rolled back from it")
    ]
    assert nothing.fix.startswith("name one yourself: kubectl irb rollback")


def test_s3_a_single_pod_that_serves_is_evidence() -> None:
    choice = chosen(on_top_of(a_past(4, days=0.03, available=1)))
    assert (choice.why, choice.is_proven) == ("1 pod of it still serves", True)


def test_a_trial_that_was_denied_is_said() -> None:
    choice = choose_revision(a_workload(), None, NOW, tried(1, trial=Trial("Denied", "may not")))
    assert isinstance(choice, Choice)
    assert choice.why.endswith("; not tried: may not")
    assert not choice.may_patch
