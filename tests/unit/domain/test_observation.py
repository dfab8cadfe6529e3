from datetime import datetime

import pytest

from incident_rollback.crd.v1alpha1 import IncidentRollback, Policy
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.observation import (
    Observation,
    is_another,
    is_same,
    is_written,
    patched_at,
)
from incident_rollback.domain.workload import Workload
from tests.builders import (
    NOW,
    a_marker,
    a_revision,
    a_rollback,
    a_workload,
    after,
    ago,
    an_incident,
    an_observation,
    claimed,
    frozen,
    hash_of,
    some_facts,
    undone,
)

CLAIM = claimed()
OURS = a_marker(of=CLAIM)

TRACE = [
    pytest.param(CLAIM, a_workload(), False, id="no trace"),
    pytest.param(CLAIM, a_workload(marker=OURS), True, id="our marker on the workload"),
    pytest.param(
        CLAIM,
        a_workload(a_revision(2), a_revision(1, marker=OURS)),
        True,
        id="wiped from the workload, and on a ReplicaSet",
    ),
    pytest.param(CLAIM, a_workload(marker=a_marker()), False, id="another's marker"),
    pytest.param(
        CLAIM,
        a_workload(marker=a_marker(of=CLAIM, uid="made-before")),
        False,
        id="our intent with another uid",
    ),
    pytest.param(
        CLAIM,
        a_workload(a_revision(4, history=(2,)), a_revision(3, history=(1,))),
        True,
        id="every marker wiped, and the revision of `from` has another number: it came back",
    ),
    pytest.param(
        CLAIM,
        a_workload(a_revision(1, pod_template_hash=hash_of(2)), uid="made-again"),
        False,
        id="numbers of another workload of that name",
    ),
    pytest.param(CLAIM, a_workload(a_revision(3)), False, id="the revision of `from` is pruned"),
    pytest.param(claimed(patched_at=NOW), a_workload(), True, id="as recorded"),
    pytest.param(claimed(patched_at=NOW), None, True, id="as recorded, and nothing can be seen"),
    pytest.param(CLAIM, None, False, id="nothing can be seen"),
    pytest.param(a_rollback(), a_workload(marker=a_marker(of=a_rollback())), False, id="no claim"),
]


@pytest.mark.parametrize(("rollback", "workload", "is_so"), TRACE)
def test_trace(rollback: IncidentRollback, workload: Workload | None, is_so: bool) -> None:
    assert is_written(rollback, workload) is is_so


PATCHED_AT = [
    pytest.param(claimed(patched_at=ago(seconds=9)), a_workload(), ago(seconds=9), id="recorded"),
    pytest.param(
        CLAIM,
        a_workload(marker=a_marker(after(seconds=2), of=CLAIM)),
        after(seconds=2),
        id="by the marker",
    ),
    pytest.param(CLAIM, undone(), NOW, id="without a marker: at the claim"),
    pytest.param(CLAIM, None, NOW, id="nothing can be seen: at the claim"),
    pytest.param(a_rollback(), None, None, id="no claim"),
]


@pytest.mark.parametrize(("rollback", "workload", "at"), PATCHED_AT)
def test_when_the_patch_went_in(
    rollback: IncidentRollback, workload: Workload | None, at: datetime | None
) -> None:
    assert patched_at(rollback, workload) == at


def test_written_at_says_nothing_without_a_trace() -> None:
    assert an_observation(CLAIM).written_at is None
    assert an_observation(CLAIM, a_workload(marker=OURS)).written_at == NOW


SAME = [
    pytest.param(a_workload(), True, id="the live one"),
    pytest.param(
        a_workload(a_revision(3, like=2, restarted="now"), a_revision(2)), True, id="restarted"
    ),
    pytest.param(a_workload(a_revision(3), a_revision(2)), False, id="another is live"),
    pytest.param(a_workload(a_revision(3)), False, id="pruned"),
]


@pytest.mark.parametrize(("workload", "is_so"), SAME)
def test_whether_the_live_template_equals_a_frozen_revision(
    workload: Workload, is_so: bool
) -> None:
    assert is_same(workload, frozen(2)) is is_so
    assert not is_same(workload, None)


def test_a_workload_with_another_uid_is_another() -> None:
    assert is_another(CLAIM, a_workload(uid="made-again"))
    assert not is_another(CLAIM, a_workload())
    assert not is_another(a_rollback(), a_workload(uid="made-again"))


AGE_COUNTS_FROM = [
    pytest.param(a_rollback(), NOW, id="creation"),
    pytest.param(
        a_rollback(requested_at=ago(minutes=3)), ago(minutes=3), id="the request, if earlier"
    ),
    pytest.param(a_rollback(requested_at=after(days=9)), NOW, id="never later than creation"),
    pytest.param(a_rollback(created=None), NOW, id="not stored: now"),
]


@pytest.mark.parametrize(("rollback", "at"), AGE_COUNTS_FROM)
def test_time_age_counts_from_the_earlier(rollback: IncidentRollback, at: datetime) -> None:
    seen = an_observation(rollback, policy=Policy(max_age_seconds=60))
    assert seen.asked_at == at
    assert (seen.acts_until - at).total_seconds() == 60


def test_without_a_place_the_default_policy_counts() -> None:
    assert an_observation(place=None).policy == Policy()


def test_when_the_incident_began() -> None:
    assert an_observation().began_at == ago(minutes=5)
    without = a_rollback(incident=an_incident(started_at=None), requested_at=ago(minutes=1))
    assert an_observation(without).began_at == ago(minutes=1)
    assert an_observation(a_rollback(incident=None)).began_at == NOW


DRILLS = [
    pytest.param({}, None, False, id="a real incident"),
    pytest.param({"incident": an_incident(severity="GameDay")}, None, True, id="it says so itself"),
    pytest.param({}, some_facts("GAMEDAY"), True, id="FireHydrant says so"),
    pytest.param({"dry_run": True}, None, True, id="asked for as a preview"),
    pytest.param({"incident": None}, None, False, id="without an incident"),
]


@pytest.mark.parametrize(("spec", "facts", "is_so"), DRILLS)
def test_drills(spec: dict[str, object], facts: IncidentFacts | None, is_so: bool) -> None:
    seen: Observation = an_observation(a_rollback(**spec), facts=facts)  # type: ignore[arg-type]
    assert seen.is_dry_run is is_so


def test_explicit_is_a_revision_or_an_approved_plan() -> None:
    assert not an_observation().is_explicit
    assert an_observation(a_rollback(to={"revision": 1})).is_explicit
    assert an_observation(a_rollback(plan_digest="sha256:" + "0" * 64)).is_explicit
