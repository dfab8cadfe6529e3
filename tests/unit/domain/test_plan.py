import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident_rollback.domain.plan import MAX_CHANGES, plan_of
from incident_rollback.domain.raw import Json
from tests.builders import a_revision, a_template, a_workload

IMAGE = "checkout:1.1"


def changes(live: Json, wanted: Json) -> tuple[str, ...]:
    to = a_revision(1, template=wanted)
    workload = a_workload(a_revision(2, template=live), to)
    return plan_of(workload, to).changes


def with_spec(**spec: Any) -> Json:
    template = a_template(IMAGE)
    return {**template, "spec": {**template["spec"], **spec}}


CHANGES = [
    pytest.param(
        a_template("checkout:latest"),
        ["container app: image checkout:latest -> checkout:1.1"],
        id="an image is shown",
    ),
    pytest.param(
        a_template(IMAGE, env=[{"name": "KEY", "value": "s3cret"}]),
        ["container app: env changes"],
        id="anything else by its path alone",
    ),
    pytest.param(
        with_spec(volumes=[{"name": "v"}]), ["spec: volumes changes"], id="the pod's spec"
    ),
    pytest.param(
        {**a_template(IMAGE), "metadata": {"labels": {"a": "b"}}},
        ["metadata: labels changes"],
        id="labels",
    ),
    pytest.param(
        with_spec(initContainers=[{"name": "i", "image": "init:1"}]),
        ["init container i: removed"],
        id="a container goes",
    ),
    pytest.param(
        {"metadata": {"labels": {"app": "checkout"}}, "spec": {}},
        ["container app: added, image checkout:1.1"],
        id="a container comes",
    ),
    pytest.param(a_template(IMAGE, restarted="now", env=[]), [], id="noise is no change"),
    pytest.param(
        a_template("<b>@here"),
        ["container app: image &lt;b&gt;@\u200bhere -> checkout:1.1"],
        id="quoted",
    ),
]


@pytest.mark.parametrize(("live", "lines"), CHANGES)
def test_a_change_is_a_line(live: Json, lines: list[str]) -> None:
    assert list(changes(live, a_template(IMAGE))) == lines


def containers(count: int, image: str) -> Json:
    return {"spec": {"containers": [{"name": f"c{n:03}", "image": image} for n in range(count)]}}


MANY = [
    pytest.param(50, "container c049: image old -> new", id="as many as fit are all shown"),
    pytest.param(51, "and 2 more", id="one more: how many are left out"),
    pytest.param(100, "and 51 more", id="many more"),
]


@pytest.mark.parametrize(("count", "last"), MANY)
def test_lines_are_bounded(count: int, last: str) -> None:
    lines = changes(containers(count, "old"), containers(count, "new"))
    assert len(lines) == MAX_CHANGES
    assert lines[-1] == last


SECRETS = st.text(alphabet="0123456789abcdef", min_size=12, max_size=20).map("SECRET{}".format)


@settings(deadline=None)  # Two busy cores are no failure.
@given(SECRETS, st.sampled_from(["env", "args", "command", "lifecycle", "new"]))
def test_no_value_of_env_or_secret_gets_out(secret: str, key: str) -> None:
    hidden: dict[str, Any] = {key: [{"name": "PASSWORD", "value": secret}]}
    live = a_template(IMAGE, **hidden)
    live["metadata"]["annotations"] = {"vault": secret}
    live["spec"]["hostAliases"] = [{"hostnames": [secret]}]
    to = a_revision(1, template=a_template("checkout:1.0"))
    plan = plan_of(a_workload(a_revision(2, template=live), to), to)
    assert secret not in json.dumps(plan.model_dump())


BASE = a_workload()
DIGESTS = [
    pytest.param(replace(BASE, generation=99, wanted=9), True, id="scaled: the same plan"),
    pytest.param(
        replace(BASE, template=a_template("checkout:1.2", restarted="now")),
        True,
        id="restarted: the same plan",
    ),
    pytest.param(replace(BASE, uid="made-again"), False, id="another workload of that name"),
    pytest.param(replace(BASE, template=a_template("checkout:1.3")), False, id="another deploy"),
]


@pytest.mark.parametrize(("other", "is_same"), DIGESTS)
def test_the_digest_covers_all_that_decides(other: Any, is_same: bool) -> None:
    to = BASE.revisions[1]
    digest = plan_of(BASE, to).digest
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert (plan_of(other, to).digest == digest) is is_same


def test_the_digest_is_that_of_the_aim() -> None:
    first, second = (plan_of(BASE, a_revision(n)).digest for n in (1, 5))
    assert first != second
