import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.crd.v1alpha1 import MAX_PLAN_LINES, MAX_TEXT, PlanStatus
from incident_rollback.domain.moves import Doubt
from incident_rollback.domain.plan import NEVER, in_short, origin_words, plan_of
from incident_rollback.domain.raw import Json
from incident_rollback.domain.references import references_of
from incident_rollback.domain.words import quote
from incident_rollback.domain.workload import Revision, Workload, WorkloadRef
from tests.builders import (
    NOW,
    REF,
    a_pod,
    a_revision,
    a_template,
    a_workload,
    after,
    ago,
    timed_out,
    undone,
)

IMAGE = "checkout:1.1"
BASE = a_workload()


def plan_between(live: Json, wanted: Json) -> PlanStatus:
    to = a_revision(1, template=wanted)
    return plan_of(a_workload(a_revision(2, template=live), to), to)


def containers(count: int, image: str) -> Json:
    return {"spec": {"containers": [{"name": f"c{n:03}", "image": image} for n in range(count)]}}


# What changes

MANY = [
    pytest.param(50, "container c049: image old -> new", id="as many as fit are all shown"),
    pytest.param(51, "and 2 more", id="one more: how many are left out"),
    pytest.param(100, "and 51 more", id="many more"),
]


@pytest.mark.parametrize(("count", "last"), MANY)
def test_lines_are_bounded(count: int, last: str) -> None:
    lines = plan_between(containers(count, "old"), containers(count, "new")).changes
    assert len(lines) == MAX_PLAN_LINES
    assert lines[-1] == last


def test_a_line_is_bounded() -> None:
    live, wanted = (a_template(char * 900) for char in "&@")
    (line,) = plan_between(live, wanted).changes
    assert len(line) == MAX_TEXT


SECRETS = st.text(alphabet="0123456789abcdef", min_size=12, max_size=20).map("SECRET{}".format)


@given(SECRETS, st.sampled_from(["env", "args", "command", "lifecycle", "new"]))
def test_no_value_of_env_or_secret_gets_into_a_plan(secret: str, key: str) -> None:
    hidden: dict[str, Any] = {key: [{"name": "PASSWORD", "value": secret}]}
    live = a_template(IMAGE, **hidden)
    live["metadata"]["annotations"] = {"vault": secret}
    for plan in (
        plan_between(live, a_template("checkout:1.0")),
        plan_between(a_template("checkout:1.0"), live),
    ):
        assert secret not in plan.model_dump_json()


# What does not


def with_spec(**spec: Any) -> Json:
    template = a_template(IMAGE)
    return {**template, "spec": {**template["spec"], **spec}}


def env(**source: Any) -> Json:
    return {"name": "A", "valueFrom": source}


LEFT = [
    pytest.param(a_template(IMAGE), [], id="no configuration"),
    pytest.param(
        a_template(IMAGE, env=[env(configMapKeyRef={"name": "web", "key": "a"})]),
        ["ConfigMap web"],
        id="a key of a ConfigMap",
    ),
    pytest.param(
        a_template(IMAGE, env=[env(secretKeyRef={"name": "db", "key": "a", "optional": True})]),
        ["Secret db"],
        id="a key of a Secret, optional or not",
    ),
    pytest.param(
        a_template(IMAGE, envFrom=[{"secretRef": {"name": "b"}}, {"configMapRef": {"name": "a"}}]),
        ["ConfigMap a", "Secret b"],
        id="whole ones, ConfigMaps first",
    ),
    pytest.param(
        with_spec(
            volumes=[
                {"name": "a", "secret": {"secretName": "tls"}},
                {"name": "b", "configMap": {"name": "web", "items": [{"key": "k", "path": "p"}]}},
                {"name": "c", "azureFile": {"secretName": "azure", "shareName": "s"}},
                {"name": "d", "csi": {"nodePublishSecretRef": {"name": "csi"}}},
                {"name": "e", "projected": {"sources": [{"secret": {"name": "mixed"}}]}},
            ]
        ),
        ["ConfigMap web", "Secret azure", "Secret csi", "Secret mixed", "Secret tls"],
        id="volumes of every kind",
    ),
    pytest.param(
        with_spec(
            initContainers=[{"name": "i", "envFrom": [{"secretRef": {"name": "db"}}]}],
            imagePullSecrets=[{"name": "registry"}, {"name": "db"}],
        ),
        ["Secret db", "Secret registry"],
        id="each once, those of init containers and of the registry too",
    ),
    pytest.param(
        with_spec(nodeSelector={"secret": "a"}, volumes=[{"name": "v", "configMap": "odd"}]),
        [],
        id="what only looks like one",
    ),
    pytest.param(
        with_spec(imagePullSecrets=[{"name": "<b>"}, {"name": 7}, "x"]),
        ["Secret &lt;b&gt;"],
        id="quoted",
    ),
]


@pytest.mark.parametrize(("wanted", "names"), LEFT)
def test_what_the_target_uses_and_stays_as_it_is_now(wanted: Json, names: list[str]) -> None:
    plan = plan_between(a_template("live", envFrom=[{"secretRef": {"name": "no"}}]), wanted)
    assert list(plan.not_rolled_back) == [*NEVER, *names]
    needed = {str(one) for one in references_of(wanted) if one.kind in ("ConfigMap", "Secret")}
    assert {quote(name) for name in needed} <= {*names}


def test_what_stays_is_bounded() -> None:
    wanted = with_spec(imagePullSecrets=[{"name": f"s{n:03}"} for n in range(60)])
    left = plan_between(a_template("live"), wanted).not_rolled_back
    assert (len(left), left[-1]) == (MAX_PLAN_LINES, "and 14 more")


# What runs now

ORIGINS = [
    pytest.param(a_workload(), ago(minutes=10), "kubectl-set", id="a new release"),
    pytest.param(undone(), ago(minutes=2), "kubectl-set", id="one that was returned to"),
    pytest.param(
        undone(template_written_at=None, template_writer=""), None, "", id="unknown: left out"
    ),
    pytest.param(a_workload(template_writer="<b>"), ago(minutes=10), "&lt;b&gt;", id="quoted"),
    pytest.param(
        a_workload(template_writer="&" * 300),
        ago(minutes=10),
        f"{'&amp;' * 199}…",
        id="bounded",
    ),
]


@pytest.mark.parametrize(("workload", "at", "by"), ORIGINS)
def test_age_and_author_of_the_running_revision(workload: Workload, at: Any, by: str) -> None:
    plan = plan_of(workload, workload.revisions[1])
    assert (plan.deployed_at, plan.written_by) == (at, by)


def origin(**known: Any) -> PlanStatus:
    return PlanStatus(digest="sha256:0", **known)


WORDS = [
    pytest.param(
        origin(deployed_at=ago(minutes=42), written_by="kubectl-set"),
        "deployed 2026-11-23 01:32 UTC (42 min before this was asked for), last written by "
        "kubectl-set",
        id="both known",
    ),
    pytest.param(origin(written_by="helm"), "last written by helm", id="age unknown"),
    pytest.param(
        origin(deployed_at=ago(days=1)),
        "deployed 2026-11-22 02:14 UTC (1 d before this was asked for)",
        id="author unknown",
    ),
    pytest.param(
        origin(deployed_at=after(minutes=1)),
        "deployed 2026-11-23 02:15 UTC",
        id="after it was asked for: no age",
    ),
    pytest.param(origin(), "", id="nothing known: nothing said"),
]


@pytest.mark.parametrize(("plan", "words"), WORDS)
def test_words_for_age_and_author(plan: PlanStatus, words: str) -> None:
    assert origin_words(plan, NOW) == words


def test_without_a_time_of_asking_there_is_no_age() -> None:
    assert origin_words(origin(deployed_at=NOW), None) == "deployed 2026-11-23 02:14 UTC"


SHORT = [
    pytest.param([], "", id="none"),
    pytest.param(["abc", "def"], "abc; def", id="all fit"),
    pytest.param(["abc", "def", "ghi"], "abc; def; and 1 more", id="whole ones only"),
    pytest.param(["abcdefghij"], "abcdefg…", id="the first is cut"),
    pytest.param(["abcdefghij", "k"], "abcdefg…; and 1 more", id="and the rest is counted"),
]


@pytest.mark.parametrize(("items", "expected"), SHORT)
def test_a_list_in_short(items: list[str], expected: str) -> None:
    assert in_short(items, "; ", 8) == expected


# The digest

DIGESTS = [
    pytest.param(replace(BASE, generation=99, wanted=9), True, id="scaled"),
    pytest.param(
        replace(BASE, template=a_template("checkout:1.2", restarted="now")), True, id="restarted"
    ),
    pytest.param(a_workload(health="healthy"), True, id="its pods became healthy"),
    pytest.param(replace(BASE, pods=(a_pod(restarts=9),), available=1), True, id="pods came"),
    pytest.param(replace(BASE, progress=timed_out(NOW)), True, id="Kubernetes gave up"),
    pytest.param(
        replace(BASE, template_written_at=NOW, template_writer="helm", managed_by=()),
        True,
        id="written again as it is",
    ),
    pytest.param(replace(BASE, uid="made-again"), False, id="another workload of that name"),
    pytest.param(replace(BASE, ref=replace(REF, name="cart")), False, id="another name"),
    pytest.param(replace(BASE, ref=replace(REF, namespace="b")), False, id="another namespace"),
    pytest.param(replace(BASE, template=a_template("checkout:1.3")), False, id="another deploy"),
]


@pytest.mark.parametrize(("other", "is_same"), DIGESTS)
def test_the_digest_moves_with_what_decides_alone(other: Workload, is_same: bool) -> None:
    to = BASE.revisions[1]
    assert (plan_of(other, to).digest == plan_of(BASE, to).digest) is is_same


def doubts(*codes: str) -> list[Doubt]:
    return [Doubt(code, f"why {code}") for code in codes]


def test_the_digest_is_the_same_in_every_process() -> None:
    """Written down here: another spelling would turn every approved plan into another one."""
    assert plan_of(BASE, BASE.revisions[1], doubts("FailsAlike", "ReleaseIsOld")).digest == (
        "sha256:51c5acb08b9de0dbcaeb79e10d7cdb51a23c5b94e77bda26fe07bebb096ef12b"
    )


TARGETS = [
    pytest.param(a_revision(5), False, id="another revision"),
    pytest.param(a_revision(9, like=1), True, id="the same template by another number"),
    pytest.param(a_revision(1, available=9, created_at=NOW), True, id="pods of it came"),
]


@pytest.mark.parametrize(("to", "is_same"), TARGETS)
def test_the_digest_is_that_of_the_aim(to: Revision, is_same: bool) -> None:
    assert (plan_of(BASE, to).digest == plan_of(BASE, a_revision(1)).digest) is is_same


WARNINGS = [
    pytest.param(["ReleaseIsOld"], False, id="one comes"),
    pytest.param(["FailsAlike", "ReleaseIsOld", "FailsAlike"], False, id="another comes"),
    pytest.param(["FailsAlike", "FailsAlike"], True, id="said twice"),
    pytest.param([], False, id="it goes"),
]


@pytest.mark.parametrize(("warnings", "is_same"), WARNINGS)
def test_the_digest_covers_what_speaks_against_it(warnings: list[str], is_same: bool) -> None:
    to = BASE.revisions[1]
    digests = (plan_of(BASE, to, doubts(*given)).digest for given in (warnings, ["FailsAlike"]))
    assert (len(set(digests)) == 1) is is_same


def test_the_order_of_what_speaks_against_it_does_not_count() -> None:
    to, given = BASE.revisions[1], doubts("ReleaseIsOld", "FailsAlike")
    assert plan_of(BASE, to, given).digest == plan_of(BASE, to, given[::-1]).digest


def test_a_plan_shows_what_speaks_against_it() -> None:
    plan = plan_of(BASE, BASE.revisions[1], doubts("FailsAlike"))
    assert plan.warnings == ("why FailsAlike",)


NAMES = st.text(max_size=3)
INPUTS = st.tuples(
    NAMES, NAMES, NAMES, st.integers(1, 3), st.integers(1, 3), st.frozensets(NAMES, max_size=2)
)


def digest_of(
    namespace: str, name: str, uid: str, live: int, to: int, warnings: frozenset[str]
) -> str:
    workload = replace(
        BASE, ref=WorkloadRef(namespace, name), uid=uid, template=a_revision(live).template
    )
    return plan_of(workload, a_revision(to), doubts(*sorted(warnings))).digest


@given(INPUTS, INPUTS, st.integers(0, 5))
def test_every_change_of_what_decides_is_another_digest(
    one: tuple[Any, ...], other: tuple[Any, ...], at: int
) -> None:
    assert (digest_of(*one) == digest_of(*other)) == (one == other)
    near = (*one[:at], other[at], *one[at + 1 :])
    assert (digest_of(*one) == digest_of(*near)) == (one == near)


def test_a_plan_is_plain_json() -> None:
    plan = plan_of(BASE, BASE.revisions[1])
    assert json.loads(plan.model_dump_json(by_alias=True)) == {
        "digest": plan.digest,
        "changes": ["container app: image checkout:1.2 -> checkout:1.1"],
        "warnings": [],
        "notRolledBack": ["replicas", "strategy", "HorizontalPodAutoscaler"],
        "deployedAt": "2026-11-23T02:04:00Z",
        "writtenBy": "kubectl-set",
    }


def test_in_short_keeps_what_just_fits() -> None:
    assert in_short(["x" * 10], ", ", 10) == "x" * 10
    assert in_short(["x" * 11], ", ", 10) == "x" * 9 + "…"


def test_what_was_deployed_in_the_second_it_was_asked_for_has_no_age() -> None:
    at = origin(deployed_at=NOW)
    assert origin_words(at, NOW) == "deployed 2026-11-23 02:14 UTC"
