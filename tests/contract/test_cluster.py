"""One suite for ports.Cluster: against the fake, and against the real client over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import pytest

from incident_rollback.clients.cluster import KubernetesCluster
from incident_rollback.clients.connection import Connection
from incident_rollback.clients.translate import marker_text, to_workload
from incident_rollback.crd.v1alpha1 import FIELD_MANAGER, SERVICE_LABEL
from incident_rollback.domain.raw import Json, child
from incident_rollback.domain.surroundings import Reference, Trial
from incident_rollback.domain.workload import WorkloadRef
from incident_rollback.errors import (
    ForbiddenError,
    InvalidRequestError,
    RejectedError,
    RollbackError,
    StaleReadError,
    ThrottledError,
    UnavailableError,
)
from incident_rollback.ports import Cluster, ClusterEvent, TemplatePatch
from tests.fakes.apiserver import BARE_422, FakeApiServer, Fault, Seen, status
from tests.fakes.clock import FakeClock
from tests.fakes.cluster import FakeCluster
from tests.unit.clients.raw_objects import UID, a_deployment, a_pod, a_replica_set, a_template

REF = WorkloadRef("shop", "frontend")
DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
FRONTEND = f"{DEPLOYMENTS}/frontend"
EVENTS = "/api/v1/namespaces/shop/events"
REPLICA_SETS = [a_replica_set("2", "nginx:latest", pod_hash="77c9"), a_replica_set()]
PODS = [a_pod(), a_pod(pod_hash="77c9", number=1)]


class World(Protocol):
    """A cluster, and how to arrange it."""

    @property
    def cluster(self) -> Cluster: ...

    def put(self, deployment: Json, *, service: str = "") -> None: ...

    def events(self) -> int: ...

    def deny(self, namespace: str, verb: str, resource: str) -> None: ...

    def now(self) -> FakeClock: ...


@dataclass
class InMemory:
    cluster: FakeCluster

    def put(self, deployment: Json, *, service: str = "") -> None:
        self.cluster.put(to_workload(deployment, REPLICA_SETS, PODS), service=service)

    def events(self) -> int:
        return len(self.cluster.events)

    def deny(self, namespace: str, verb: str, resource: str) -> None:
        self.cluster.denied.add((namespace, verb, resource))

    def now(self) -> FakeClock:
        return FakeClock()


@dataclass
class OverHttp:
    cluster: KubernetesCluster
    server: FakeApiServer

    def put(self, deployment: Json, *, service: str = "") -> None:
        metadata = deployment["metadata"]
        labels = {SERVICE_LABEL: service} if service else {}
        self.server.put(
            f"{DEPLOYMENTS}/{metadata['name']}",
            {**deployment, "metadata": {**metadata, "labels": labels}},
        )
        for raw in REPLICA_SETS:
            path = f"/apis/apps/v1/namespaces/shop/replicasets/{raw['metadata']['name']}"
            labels = raw["metadata"]["labels"]
            self.server.put(path, {**raw, "metadata": {**raw["metadata"], "labels": labels}})
        for raw in PODS:
            self.server.put(f"/api/v1/namespaces/shop/pods/{raw['metadata']['name']}", raw)

    def events(self) -> int:
        return sum(path.startswith(EVENTS) for path in self.server.objects)

    def deny(self, namespace: str, verb: str, resource: str) -> None:
        self.server.denied.add((namespace, verb, resource))

    def now(self) -> FakeClock:
        return FakeClock(self.server.at)


@pytest.fixture
def real(server: FakeApiServer, connection: Connection) -> OverHttp:
    return OverHttp(KubernetesCluster(connection), server)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, real: OverHttp) -> World:
    return real if request.param == "real" else InMemory(FakeCluster(rolls_out=False))


def a_patch(world: World) -> TemplatePatch:
    return TemplatePatch(
        ref=REF,
        uid=UID,
        generation=4,
        revision=2,
        template=REPLICA_SETS[1]["spec"]["template"],
        marker=marker_text("0f0f", "3f9a1c27b0d4e6f8", world.now().now()),
    )


def an_event(**given: str) -> ClusterEvent:
    event = ClusterEvent(
        api_version="apps/v1",
        kind="Deployment",
        namespace="shop",
        name="frontend",
        uid=UID,
        key="start-0f0f",
        type="Normal",
        reason="RollingBack",
        message="back to nginx:1.18.0",
    )
    return replace(event, **given)  # type: ignore[arg-type]  # strings are what is changed here


async def test_a_workload_that_is_not_there_is_none(world: World) -> None:
    assert await world.cluster.read_workload(REF) is None


async def test_a_snapshot_has_the_workload_its_revisions_and_its_pods(world: World) -> None:
    world.put(a_deployment())
    workload = await world.cluster.read_workload(REF)
    assert workload == to_workload(a_deployment(), REPLICA_SETS, PODS)
    assert workload is not None
    assert [revision.number for revision in workload.revisions] == [2, 1]
    assert len(workload.pods) == 2


async def test_workloads_of_a_service_come_by_name(world: World) -> None:
    for name, service in (("b", "web"), ("a", "web"), ("c", "other")):
        world.put(a_deployment(metadata={"name": name}), service=service)
    found = await world.cluster.labelled_workloads("shop", "web")
    assert found == [WorkloadRef("shop", "a"), WorkloadRef("shop", "b")]
    assert await world.cluster.labelled_workloads("shop", "nothing") == []


async def test_a_restore_writes_template_and_marker_and_says_when(world: World) -> None:
    world.put(a_deployment())
    at = await world.cluster.restore_template(a_patch(world))
    workload = await world.cluster.read_workload(REF)
    assert at == world.now().now()
    assert workload is not None
    assert workload.template == a_template()
    assert workload.marker is not None
    assert (workload.marker.uid, workload.marker.at) == ("0f0f", at)
    assert (workload.generation, workload.observed_generation) == (5, 4)
    assert (workload.our_write_at, workload.template_writer) == (at, FIELD_MANAGER)
    assert workload.wanted == 3


WITHOUT_ANNOTATIONS = a_deployment()
del WITHOUT_ANNOTATIONS["metadata"]["annotations"]
GUARDS = [
    pytest.param(a_deployment(metadata={"uid": "another"}), id="W4 the uid is another"),
    pytest.param(a_deployment(metadata={"generation": 5}), id="W3 the generation has moved"),
    pytest.param(
        a_deployment(annotations={"deployment.kubernetes.io/revision": "3"}),
        id="the revision has moved",
    ),
    pytest.param(WITHOUT_ANNOTATIONS, id="W10 there is no map of annotations"),
    pytest.param(a_deployment(metadata={"annotations": {}}), id="W10 it is empty"),
]


@pytest.mark.parametrize("deployment", GUARDS)
async def test_a_restore_of_another_object_than_the_judged_one_changes_nothing(
    world: World, deployment: Json
) -> None:
    world.put(deployment)
    before = await world.cluster.read_workload(REF)
    with pytest.raises(StaleReadError):
        await world.cluster.restore_template(a_patch(world))
    assert await world.cluster.read_workload(REF) == before


async def test_a_restore_of_what_is_gone_is_a_stale_read(world: World) -> None:
    with pytest.raises(StaleReadError, match="is gone"):
        await world.cluster.restore_template(a_patch(world))


async def test_a_second_restore_meets_its_own_guard(world: World) -> None:
    world.put(a_deployment())
    await world.cluster.restore_template(a_patch(world))
    with pytest.raises(StaleReadError):
        await world.cluster.restore_template(a_patch(world))


async def test_a_trial_says_yes_and_changes_nothing(world: World) -> None:
    world.put(a_deployment())
    before = await world.cluster.read_workload(REF)
    assert await world.cluster.try_template(a_patch(world)) == Trial("Accepted")
    assert await world.cluster.read_workload(REF) == before


NO_OBSTACLE = [
    pytest.param(a_deployment(status={"readyReplicas": 1}), id="W5 only the status has changed"),
    pytest.param(a_deployment(spec={"replicas": 9}), id="what moved no generation, neither"),
]


@pytest.mark.parametrize("deployment", NO_OBSTACLE)
async def test_what_does_not_stand_in_the_way_of_a_restore(world: World, deployment: Json) -> None:
    """Whatever the resourceVersion is by then: it is no guard."""
    world.put(a_deployment())
    world.put(deployment)
    await world.cluster.restore_template(a_patch(world))
    workload = await world.cluster.read_workload(REF)
    assert workload is not None
    assert workload.template == a_template()


async def test_each_reference_has_an_answer(world: World) -> None:
    asked = {Reference("Secret", "keys"), Reference("PriorityClass", "high")}
    assert (await world.cluster.read_referents("shop", asked)).keys() == asked
    assert await world.cluster.read_referents("shop", ()) == {}


async def test_each_symptom_has_an_answer(world: World) -> None:
    assert await world.cluster.read_warnings("shop", {"p-1", "p-2"}) == {"p-1": None, "p-2": None}
    assert await world.cluster.read_warnings("shop", ()) == {}
    assert await world.cluster.read_nodes({"n-1"}) == {"n-1": None}
    assert await world.cluster.read_nodes(()) == {}


async def test_an_event_is_posted_once_for_its_key_and_object(world: World) -> None:
    world.put(a_deployment())
    for event in (an_event(), an_event(), an_event(key="end-0f0f"), an_event(uid="22222222")):
        await world.cluster.post_event(event)
    assert world.events() == 3


async def test_may(world: World) -> None:
    world.deny("shop", "patch", "deployments")
    assert not await world.cluster.may("shop", "patch", "deployments")
    assert await world.cluster.may("shop", "get", "deployments")
    assert await world.cluster.may("other", "patch", "deployments")


# What only the real client has to tell apart.

RBAC = (
    'deployments.apps "frontend" is forbidden: User "system:serviceaccount:ir:controller" cannot '
    'patch resource "deployments" in API group "apps" in the namespace "shop"'
)
CAUSES = {
    "name": "frontend",
    "kind": "Deployment",
    "causes": [{"field": "spec.template.spec.containers[0].image", "message": "required"}],
}
REFUSALS = [
    pytest.param(Fault(422, BARE_422), StaleReadError, id="W9 a bare 422 is a failed guard"),
    pytest.param(Fault(409, status(409, "modified")), StaleReadError, id="409 is a race"),
    pytest.param(Fault(422, status(422, "is invalid", reason="Invalid", details=CAUSES)),
                 RejectedError, id="W9 a 422 with causes is a refusal"),
    pytest.param(Fault(422, status(422, 'admission webhook "p" denied the request: no')),
                 RejectedError, id="W9 a webhook's 422 has no details and is a refusal"),
    pytest.param(Fault(422, status(422, "forbidden", details={"kind": "deployments"})),
                 RejectedError, id="a policy's 422 names the object"),
    pytest.param(Fault(400, status(400, 'admission webhook "p" denied the request: no')),
                 RejectedError, id="a webhook's 400"),
    pytest.param(Fault(406, status(406, 'admission webhook "p" denied the request: no')),
                 RejectedError, id="a webhook's very own code"),
    pytest.param(Fault(403, status(403, 'admission webhook "p" denied the request: no')),
                 RejectedError, id="W9 a webhook's 403"),
    pytest.param(Fault(403, status(403, "ValidatingAdmissionPolicy 'p' with binding 'b' denied "
                                        "request: no")),
                 RejectedError, id="a policy's 403"),
    pytest.param(Fault(403, status(403, RBAC)), ForbiddenError, id="W9 RBAC's 403"),
    pytest.param(Fault(429, status(429, "slow down")), ThrottledError, id="429"),
    pytest.param(Fault(500, status(500, "failed calling webhook")), UnavailableError, id="500"),
    pytest.param(Fault(504, "<html>"), UnavailableError, id="504 of something in between"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "expected"), REFUSALS)
async def test_refusals_of_a_patch(
    real: OverHttp, fault: Fault, expected: type[RollbackError]
) -> None:
    real.put(a_deployment())
    real.server.faults = [fault]
    with pytest.raises(expected) as raised:
        await real.cluster.restore_template(a_patch(real))
    assert isinstance(raised.value, expected)
    assert len(real.server.seen) == 1


OTHER_TEMPLATE = a_deployment(spec={"template": a_template("nginx:1.18.0@sha256:0f")})
TRIALS = [
    pytest.param(
        Fault(403, status(403, 'admission webhook "p" denied the request: too old')),
        Trial("Rejected", 'admission webhook "p" denied the request: too old'),
        id="P10 a webhook's refusal is the reason",
    ),
    pytest.param(
        Fault(422, status(422, "is invalid", reason="Invalid", details=CAUSES)),
        Trial("Rejected", "spec.template.spec.containers[0].image: required"),
        id="P10 what validation refuses is the reason",
    ),
    pytest.param(
        Fault(400, status(400, 'admission webhook "p" denied the request: no')),
        Trial("Rejected", 'admission webhook "p" denied the request: no'),
        id="P10 a webhook may refuse with 400",
    ),
    pytest.param(
        Fault(400, status(400, 'admission webhook "p" does not support dry run')),
        Trial("Unknown", 'admission webhook "p" does not support dry run'),
        id="P11 what does not support a dry run refuses nothing",
    ),
    pytest.param(
        Fault(500, status(500, "failed calling webhook")),
        Trial("Unknown", "failed calling webhook"),
        id="P11 no answer refuses nothing",
    ),
    pytest.param(
        Fault(422, BARE_422),
        Trial("Unknown", "deployment shop/frontend was changed meanwhile"),
        id="P11 a workload that moved is for the patch itself to tell",
    ),
    pytest.param(
        Fault(200, a_deployment()),
        Trial("Rejected", "admission would make another template of it"),
        id="P12 a patch that changes nothing is no rollback",
    ),
    pytest.param(
        Fault(200, OTHER_TEMPLATE),
        Trial("Rejected", "admission would make another template of it"),
        id="P12 a template that is mutated on its way is another one",
    ),
]


@pytest.mark.parametrize(("fault", "trial"), TRIALS)
async def test_what_comes_of_a_trial(real: OverHttp, fault: Fault, trial: Trial) -> None:
    real.put(a_deployment())
    real.server.faults = [fault]
    found = await real.cluster.try_template(a_patch(real))
    assert found.outcome == trial.outcome
    assert trial.message in found.message
    assert len(real.server.seen) == 1


WORDS = 'admission webhook "p" denied the request: DB "postgres://app:hunter2@db/x" is not TLS'


@pytest.mark.parametrize("code", [400, 403, 422])
async def test_what_a_policy_quotes_is_told_without_its_secrets(real: OverHttp, code: int) -> None:
    real.server.faults = [Fault(code, status(code, WORDS)) for _ in range(2)]
    tried = await real.cluster.try_template(a_patch(real))
    with pytest.raises(RejectedError) as raised:
        await real.cluster.restore_template(a_patch(real))
    for told in (tried.message, str(raised.value)):
        assert "hunter2" not in told
        assert "is not TLS" in told


async def test_a_trial_that_rbac_forbids_is_no_outcome(real: OverHttp) -> None:
    real.server.faults = [Fault(403, status(403, RBAC))]
    with pytest.raises(ForbiddenError, match="may not patch deployments"):
        await real.cluster.try_template(a_patch(real))


async def test_a_trial_is_the_very_patch(real: OverHttp) -> None:
    real.put(a_deployment())
    await real.cluster.try_template(a_patch(real))
    await real.cluster.restore_template(a_patch(real))
    tried, sent = real.server.seen
    assert tried.query == {**sent.query, "dryRun": "All"}
    assert (tried.method, tried.path, tried.body) == (sent.method, sent.path, sent.body)


CAUSES_WITH_VALUES = [
    pytest.param("Required value", "Required value", id="without a value"),
    pytest.param('Invalid value: "hunter2": must be short', "Invalid value: must be short",
                 id="a string"),
    pytest.param('Invalid value: "say \\"hunter2\\": now": must be short',
                 "Invalid value: must be short", id="a string with quotes in it"),
    pytest.param('Invalid value: {"value":"hunter2: a"}: must be short',
                 "Invalid value: must be short", id="an object"),
    pytest.param('Invalid value: core.EnvVar{Value:"hunter2"}', "Invalid value",
                 id="an object and no detail"),
    pytest.param("Invalid value: 70000: must be short", "Invalid value: must be short",
                 id="a number"),
    pytest.param('Unsupported value: "hunter2": supported values: "a", "b"',
                 'Unsupported value: supported values: "a", "b"', id="an enum"),
    pytest.param('Duplicate value: "hunter2"', "Duplicate value", id="a duplicate"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), CAUSES_WITH_VALUES)
async def test_a_refusal_names_the_field_and_never_the_value(
    real: OverHttp, message: str, expected: str
) -> None:
    details = {"causes": [{"field": "spec.a", "message": message}]}
    whole = f'frontend is invalid: spec.a: {message}: {{"env":"hunter2"}}'
    real.server.faults = [Fault(422, status(422, whole, details=details))]
    with pytest.raises(RejectedError) as raised:
        await real.cluster.restore_template(a_patch(real))
    assert str(raised.value) == f"spec.a: {expected}"


async def test_a_policy_names_no_field(real: OverHttp) -> None:
    details = {"kind": "deployments", "causes": [{"message": "policy 'p' denied request: no"}]}
    real.server.faults = [Fault(422, status(422, "forbidden: no", details=details))]
    with pytest.raises(RejectedError, match=r"^policy 'p' denied request: no$"):
        await real.cluster.restore_template(a_patch(real))


@pytest.mark.parametrize("happens", [True, False])
async def test_a_patch_that_is_cut_off_is_not_sent_again(real: OverHttp, happens: bool) -> None:
    real.put(a_deployment())
    real.server.faults = [Fault(drops=True, happens=happens)]
    with pytest.raises(UnavailableError):
        await real.cluster.restore_template(a_patch(real))
    assert len(real.server.seen) == 1
    assert (real.server.objects[FRONTEND]["metadata"]["generation"] == 5) is happens


def parts_of(seen: Seen) -> dict[str, object]:
    return {
        "object": (seen.method, seen.path),
        "query": seen.query,
        "type": seen.headers["content-type"],
        "operations": [op["op"] for op in seen.body],
    }


ON_THE_WIRE = [
    pytest.param("object", ("PATCH", FRONTEND), id="one object"),
    pytest.param(
        "query",
        {"fieldManager": "incident-rollback"},
        id="W12 our field manager, whatever the account or the User-Agent is",
    ),
    pytest.param(
        "type",
        "application/json-patch+json",
        id="W11 no strategic merge, which would act on a $patch",
    ),
    pytest.param(
        "operations",
        ["test", "test", "test", "replace", "add"],
        id="W1 three guards, the template, our annotation",
    ),
]


@pytest.mark.parametrize(("part", "expected"), ON_THE_WIRE)
async def test_the_patch_on_the_wire(real: OverHttp, part: str, expected: object) -> None:
    real.put(a_deployment())
    await real.cluster.restore_template(a_patch(real))
    (seen,) = real.server.seen
    assert parts_of(seen)[part] == expected


OURS = {"template", "incidentrollback.dev/request"}
LEFT_ALONE = [
    pytest.param(("metadata", "annotations"), id="W2 all other annotations, change-cause too"),
    pytest.param(("metadata", "labels"), id="labels"),
    pytest.param(("spec",), id="W13 replicas, and all else of the spec"),
]


@pytest.mark.parametrize("path", LEFT_ALONE)
async def test_a_patch_leaves_everything_else_alone(real: OverHttp, path: Sequence[str]) -> None:
    real.put(a_deployment(annotations={"kubernetes.io/change-cause": "deploy"}), service="web")
    before = child(real.server.objects[FRONTEND], *path)
    await real.cluster.restore_template(a_patch(real))
    after = child(real.server.objects[FRONTEND], *path)
    assert {key: after[key] for key in after if key not in OURS} == {
        key: before[key] for key in before if key not in OURS
    }
    assert before


async def test_the_time_of_our_entry_comes_before_the_answer_s_date(real: OverHttp) -> None:
    entry = {"manager": FIELD_MANAGER, "time": "2026-11-23T02:13:59Z"}
    real.server.faults = [Fault(200, a_deployment(metadata={"managedFields": [entry]}))]
    at = await real.cluster.restore_template(a_patch(real))
    assert at == real.server.at - timedelta(seconds=1)


async def test_without_our_entry_the_answer_s_date_is_the_time(real: OverHttp) -> None:
    real.server.faults = [Fault(200, a_deployment())]
    assert await real.cluster.restore_template(a_patch(real)) == real.server.at


async def test_a_snapshot_takes_four_requests_and_the_whole_selector(real: OverHttp) -> None:
    expressions = [{"key": "app", "operator": "Exists"}]
    selector = {"matchLabels": {"app": "frontend"}, "matchExpressions": expressions}
    real.put(a_deployment(spec={"selector": selector}))
    version = real.server.objects[FRONTEND]["metadata"]["resourceVersion"]
    await real.cluster.read_workload(REF)
    first, *lists, last = real.server.seen
    assert first.path == last.path == FRONTEND
    assert {seen.path.rpartition("/")[2] for seen in lists} == {"replicasets", "pods"}
    assert {seen.query["labelSelector"] for seen in lists} == {"app=frontend,app"}
    assert {seen.query["resourceVersion"] for seen in lists} == {version}
    assert {seen.query["resourceVersionMatch"] for seen in lists} == {"NotOlderThan"}


async def test_a_glance_takes_three_requests(real: OverHttp) -> None:
    real.put(a_deployment())
    assert await real.cluster.read_workload(REF, at_a_glance=True) is not None
    assert [seen.path for seen in real.server.seen].count(FRONTEND) == 1
    assert len(real.server.seen) == 3


LISTS = [Fault(200, {"items": REPLICA_SETS}), Fault(200, {"items": PODS})]
GONE = Fault(404, status(404, 'deployments.apps "frontend" not found'))


def a_version(generation: int, **metadata: str) -> Fault:
    """The Deployment as it is answered with once."""
    return Fault(200, a_deployment(metadata={"generation": generation, **metadata}))


CHANGED_MEANWHILE = [
    pytest.param([a_version(4), *LISTS, a_version(4)], 4, id="not changed: one snapshot"),
    pytest.param(
        [a_version(4), *LISTS, a_version(5), *LISTS, a_version(5)],
        5,
        id="changed while its ReplicaSets were read: all of it is read again",
    ),
    pytest.param(
        [a_version(4), *LISTS, a_version(4, uid="another"), *LISTS, a_version(4, uid="another")],
        4,
        id="replaced by another of its name: all of it is read again",
    ),
    pytest.param([a_version(4), *LISTS, GONE], None, id="deleted while its pods were read: gone"),
]


@pytest.mark.parametrize(("answers", "generation"), CHANGED_MEANWHILE)
async def test_a_snapshot_shows_one_moment(
    real: OverHttp, answers: list[Fault], generation: int | None
) -> None:
    real.server.faults = list(answers)
    workload = await real.cluster.read_workload(REF)
    assert (workload and workload.generation) == generation
    assert not real.server.faults


STILL = [
    pytest.param(a_version(4), True, id="not changed"),
    pytest.param(a_version(5), False, id="changed"),
    pytest.param(a_version(4, uid="another"), False, id="another of its name"),
    pytest.param(GONE, False, id="gone"),
]


@pytest.mark.parametrize(("answer", "is_still"), STILL)
async def test_a_workload_is_still_what_was_read_when(
    real: OverHttp, answer: Fault, is_still: bool
) -> None:
    real.server.faults = [a_version(4), *LISTS, answer]
    workload = await real.cluster.read_workload(REF, at_a_glance=True)
    assert workload is not None
    assert await real.cluster.is_still(workload) is is_still


async def test_what_never_stands_still_is_not_judged(real: OverHttp) -> None:
    real.server.faults = [a_version(1), *(f for n in (2, 3, 4) for f in (*LISTS, a_version(n)))]
    with pytest.raises(UnavailableError, match="changed faster than it can be read"):
        await real.cluster.read_workload(REF)


async def test_which_services_have_a_label(real: OverHttp) -> None:
    for name, service in (("b", "web"), ("a", "pay"), ("c", "")):
        real.put(a_deployment(metadata={"name": name}), service=service)
    assert await real.cluster.labelled_services("shop") == {"pay": "a", "web": "b"}
    assert real.server.seen[-1].query["labelSelector"] == SERVICE_LABEL


async def test_a_snapshot_of_many_pods_comes_in_pages(real: OverHttp) -> None:
    real.put(a_deployment())
    real.server.page = 1
    workload = await real.cluster.read_workload(REF)
    assert workload is not None
    assert (len(workload.revisions), len(workload.pods)) == (2, 2)


async def test_not_being_allowed_to_see_pods_is_told(real: OverHttp) -> None:
    real.put(a_deployment())
    denied = (
        'pods is forbidden: User "eve" cannot list resource "pods" in API group "" '
        'in the namespace "shop"'
    )
    real.server.faults = [Fault(200, a_deployment()), *[Fault(403, status(403, denied))] * 2]
    with pytest.raises(ForbiddenError, match="eve may not list pods in namespace shop"):
        await real.cluster.read_workload(REF)


async def test_the_event_on_the_wire(real: OverHttp) -> None:
    await real.cluster.post_event(an_event(name="f" * 253, message="x" * 2000))
    (seen,) = real.server.seen
    body = seen.body
    assert seen.path == EVENTS
    assert len(body["metadata"]["name"]) == 253
    assert body["metadata"]["name"].endswith("f.11111111-start-0f0f")
    assert body["metadata"]["namespace"] == body["involvedObject"]["namespace"] == "shop"
    assert body["involvedObject"]["uid"] == UID
    assert body["reportingComponent"] == body["source"]["component"] == "incident-rollback"
    assert body["firstTimestamp"].endswith("Z")
    assert len(body["message"]) == 1024


@pytest.mark.parametrize(
    ("code", "expected"), [(404, UnavailableError), (422, InvalidRequestError)]
)
async def test_an_event_that_is_not_taken(
    real: OverHttp, code: int, expected: type[RollbackError]
) -> None:
    real.server.faults = [Fault(code, status(code, "no such namespace"))]
    with pytest.raises(expected, match="no such namespace"):
        await real.cluster.post_event(an_event())


@pytest.mark.parametrize(
    ("resource", "group"),
    [("deployments", "apps"), ("replicasets", "apps"), ("pods", ""), ("events", "")],
)
async def test_what_is_asked_of_the_api_server(real: OverHttp, resource: str, group: str) -> None:
    await real.cluster.may("shop", "get", resource)
    assert real.server.seen[0].body["spec"]["resourceAttributes"] == {
        "namespace": "shop",
        "verb": "get",
        "group": group,
        "resource": resource,
    }
