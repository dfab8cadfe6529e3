"""What a plan's lines say, and what they never say."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from incident_rollback.domain.changes import MAX_DEPTH, changes_between
from incident_rollback.domain.raw import Json
from incident_rollback.domain.template import template_key
from tests.builders import a_template

IMAGE = "checkout:1.1"


def app(**container: Any) -> Json:
    """Return a template whose one container, `app`, has these fields."""
    return a_template(IMAGE, **container)


def pod(**spec: Any) -> Json:
    """Return a template whose pods have these fields beside the container."""
    template = a_template(IMAGE)
    return {**template, "spec": {**template["spec"], **spec}}


def meta(**metadata: Any) -> Json:
    template = a_template(IMAGE)
    return {**template, "metadata": {**template["metadata"], **metadata}}


def env(name: str, **value: Any) -> Json:
    return {"name": name, **value}


def ref(kind: str, name: str, key: str) -> Json:
    return {f"{kind}KeyRef": {"name": name, "key": key}}


def probe(path: str = "/healthz", port: int | str = 8080, **fields: Any) -> Json:
    return {"httpGet": {"path": path, "port": port, "scheme": "HTTP"}, **fields}


def port(number: int, **fields: Any) -> Json:
    return {"containerPort": number, "protocol": "TCP", **fields}


SECRET_KEY = ref("secret", "db", "url")
CONFIG_KEY = ref("configMap", "web", "url")
SIDECAR = {"name": "proxy", "image": "proxy:2"}

CONTAINERS = [
    pytest.param(
        a_template("checkout:latest"),
        a_template(IMAGE),
        ["container app: image checkout:latest -> checkout:1.1"],
        id="an image is shown",
    ),
    pytest.param(
        a_template("<b>@here"),
        a_template(IMAGE),
        ["container app: image &lt;b&gt;@\u200bhere -> checkout:1.1"],
        id="quoted",
    ),
    pytest.param(
        a_template(f"checkout@sha256:{'a' * 64}"),
        a_template(f"checkout@sha256:{'b' * 64}"),
        [f"container app: image checkout@sha256:{'a' * 64} -> checkout@sha256:{'b' * 64}"],
        id="a digest in full",
    ),
    pytest.param(
        pod(initContainers=[{"name": "i", "image": "init:1"}]),
        pod(),
        ["init container i: removed"],
        id="a container goes",
    ),
    pytest.param(
        {"metadata": {"labels": {"app": "checkout"}}, "spec": {}},
        a_template(IMAGE),
        ["container app: added, image checkout:1.1"],
        id="a container comes",
    ),
    pytest.param(
        app(args=["a"], env=[env("A")]),
        a_template("checkout:1.0", args=["b"]),
        [
            "container app: image checkout:1.1 -> checkout:1.0",
            "container app: args changes",
            "container app: env A removed",
        ],
        id="images come before all else",
    ),
    pytest.param(
        pod(initContainers=[SIDECAR, {"name": "migrate", "image": "m:1"}]),
        pod(initContainers=[{"name": "migrate", "image": "m:1"}, SIDECAR]),
        ["order of initContainers changes"],
        id="init containers run in another order",
    ),
    pytest.param(
        pod(initContainers=[{**SIDECAR, "restartPolicy": "Always"}]),
        pod(initContainers=[SIDECAR]),
        ["init container proxy: restartPolicy removed"],
        id="an init container becomes an ordinary one",
    ),
]

ENV = [
    pytest.param(
        app(env=[env("KEY", value="s3cret")]),
        app(),
        ["container app: env KEY removed"],
        id="a value goes: its name",
    ),
    pytest.param(
        app(env=[env("KEY", value="old")]),
        app(env=[env("KEY", value="new")]),
        ["container app: env KEY changes"],
        id="a value changes: its name",
    ),
    pytest.param(
        app(),
        app(env=[env("KEY", value="new")]),
        ["container app: env KEY added"],
        id="a value comes: its name",
    ),
    pytest.param(
        app(),
        app(env=[env("URL", valueFrom=SECRET_KEY)]),
        ["container app: env URL added, Secret db key url"],
        id="a reference comes: what it names",
    ),
    pytest.param(
        app(env=[env("URL", valueFrom=SECRET_KEY)]),
        app(env=[env("URL", valueFrom=ref("secret", "db-2", "url"))]),
        ["container app: env URL: Secret db key url -> db-2 key url"],
        id="from another Secret",
    ),
    pytest.param(
        app(env=[env("URL", value="postgres://me:s3cret@db")]),
        app(env=[env("URL", valueFrom=CONFIG_KEY)]),
        ["container app: env URL: a value -> ConfigMap web key url"],
        id="from a ConfigMap instead of a value",
    ),
    pytest.param(
        app(env=[env("IP", valueFrom={"fieldRef": {"fieldPath": "status.podIP"}})]),
        app(env=[env("IP", valueFrom={"fieldRef": {"fieldPath": "status.hostIP"}})]),
        ["container app: env IP changes"],
        id="another field of the pod",
    ),
    pytest.param(
        app(env=[env("A", value="1"), env("B", value="$(A)")]),
        app(env=[env("B", value="$(A)"), env("A", value="1")]),
        ["container app: order of env changes"],
        id="the order, for a value may use those above",
    ),
    pytest.param(
        app(env=[env("A", value="1"), env("A", value="2")]),
        app(env=[env("A", value="3"), env("A", value="2")]),
        ["container app: env A changes"],
        id="one name twice",
    ),
    pytest.param(
        app(envFrom=[{"configMapRef": {"name": "a"}}]),
        app(envFrom=[{"configMapRef": {"name": "b"}}, {"secretRef": {"name": "s"}}]),
        [
            "container app: envFrom ConfigMap a removed",
            "container app: envFrom ConfigMap b added",
            "container app: envFrom Secret s added",
        ],
        id="all of a ConfigMap",
    ),
]

VALUES = [
    pytest.param(
        app(resources={"limits": {"memory": "128Mi"}}),
        app(resources={"limits": {"memory": "256Mi"}, "requests": {"cpu": 1}}),
        [
            "container app: resources.limits.memory 128Mi -> 256Mi",
            "container app: resources.requests.cpu none -> 1",
        ],
        id="resources by value",
    ),
    pytest.param(
        app(),
        app(resources={"limits": {"nvidia.com/gpu": "1"}}),
        ["container app: resources.limits.nvidia.com/gpu none -> 1"],
        id="resources where there were none",
    ),
    pytest.param(
        pod(resources={"limits": {"cpu": "1"}}),
        pod(resources={"limits": {"cpu": "1500m"}}),
        ["spec.resources.limits.cpu 1 -> 1500m"],
        id="resources of the whole pod",
    ),
    pytest.param(
        app(readinessProbe=probe("/healthz", 8080, periodSeconds=10, failureThreshold=3)),
        app(readinessProbe=probe("/ready", "http", periodSeconds=5, failureThreshold=1)),
        [
            "container app: readinessProbe.failureThreshold 3 -> 1",
            "container app: readinessProbe.httpGet.path /healthz -> /ready",
            "container app: readinessProbe.httpGet.port 8080 -> http",
            "container app: readinessProbe.periodSeconds 10 -> 5",
        ],
        id="a probe's paths, ports, seconds and thresholds by value",
    ),
    pytest.param(
        app(livenessProbe={"tcpSocket": {"port": 1}}),
        app(livenessProbe={"grpc": {"port": 1, "service": "a"}}),
        [
            "container app: livenessProbe.grpc added",
            "container app: livenessProbe.tcpSocket removed",
        ],
        id="a probe of another kind",
    ),
    pytest.param(
        app(startupProbe=probe()), app(), ["container app: startupProbe removed"], id="a probe goes"
    ),
    pytest.param(
        pod(resources={"requests": {"cpu": "1"}}),
        pod(resources={"requests": {"cpu": "2"}}),
        ["spec.resources.requests.cpu 1 -> 2"],
        id="what the whole pod asks for",
    ),
    pytest.param(
        app(ports=[port(53, protocol="UDP")]),
        app(ports=[port(53), port(80, hostPort=8080)]),
        [
            "container app: port 53/TCP added",
            "container app: port 53/UDP removed",
            "container app: port 80/TCP added, on host port 8080",
        ],
        id="ports by their protocols",
    ),
    pytest.param(
        app(ports=[port(8080, name="http"), port(9090)]),
        app(ports=[port(8081, name="http", hostPort=80), port(9091)]),
        [
            "container app: port 9090/TCP removed",
            "container app: port 9091/TCP added",
            "container app: port http: 8080/TCP -> 8081/TCP on host port 80",
        ],
        id="ports",
    ),
]

NAMES = [
    pytest.param(
        pod(volumes=[{"name": "config", "configMap": {"name": "a"}}]),
        pod(volumes=[{"name": "config", "configMap": {"name": "b"}}]),
        ["volume config: ConfigMap a -> b"],
        id="a volume of another ConfigMap",
    ),
    pytest.param(
        pod(volumes=[{"name": "keys", "emptyDir": {"medium": "Memory"}}, {"name": "old"}]),
        pod(
            volumes=[
                {"name": "keys", "secret": {"secretName": "tls"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data-1"}},
            ]
        ),
        [
            "volume data added, PersistentVolumeClaim data-1",
            "volume keys: emptyDir -> Secret tls",
            "volume old removed",
        ],
        id="volumes of other kinds",
    ),
    pytest.param(
        pod(volumes=[{"name": "home", "hostPath": {"path": "/a"}}]),
        pod(volumes=[{"name": "home", "hostPath": {"path": "/b"}}]),
        ["volume home changes"],
        id="a volume's inside by its name",
    ),
    pytest.param(
        app(volumeMounts=[{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}]),
        app(
            volumeMounts=[
                {"name": "a", "mountPath": "/c"},
                {"name": "b", "mountPath": "/b", "readOnly": True},
            ]
        ),
        [
            "container app: volumeMount a at /a removed",
            "container app: volumeMount a at /c added",
            "container app: volumeMount b at /b changes",
        ],
        id="mounts by name and place",
    ),
    pytest.param(
        pod(imagePullSecrets=[{"name": "a"}]),
        pod(imagePullSecrets=[{"name": "b"}]),
        ["imagePullSecret a removed", "imagePullSecret b added"],
        id="secrets for pulling images",
    ),
    pytest.param(
        meta(labels={"app": "checkout", "track": "canary"}, annotations={"a/b": "1"}),
        meta(annotations={"a/b": "2", "c": "3"}),
        [
            "metadata.annotations.a/b changes",
            "metadata.annotations.c added",
            "metadata.labels.track removed",
        ],
        id="labels and annotations by key",
    ),
    pytest.param(
        meta(annotations={"a": "1"}),
        meta(),
        ["metadata.annotations.a removed"],
        id="annotations by key where none are left",
    ),
    pytest.param(
        app(command=["a"], securityContext={"runAsUser": 1, "privileged": False}),
        app(command=["b"], securityContext={"runAsUser": 2}),
        [
            "container app: command changes",
            "container app: securityContext.privileged removed",
            "container app: securityContext.runAsUser changes",
        ],
        id="a container's other fields by path",
    ),
    pytest.param(
        pod(terminationGracePeriodSeconds=30, tolerations=[{"key": "a"}]),
        pod(terminationGracePeriodSeconds=60, nodeSelector={"disk": "ssd"}),
        [
            "spec.nodeSelector.disk added",
            "spec.terminationGracePeriodSeconds changes",
            "spec.tolerations removed",
        ],
        id="the pod's other fields by path",
    ),
    pytest.param(
        {**meta(annotations={"a": "1"}), "spec": {**app()["spec"], "affinity": {"a": [1]}}},
        app(args=["a"]),
        ["container app: args added", "spec.affinity removed", "metadata.annotations.a removed"],
        id="containers, then the pod, then its labels and annotations",
    ),
    pytest.param(app(restarted="now", env=[]), app(), [], id="noise is no change"),
    pytest.param(
        pod(volumes=[{"name": "v", "secret": {"optional": True}}]),
        pod(volumes=[{"name": "v", "csi": {}, "hostPath": {}, "projected": {"x": 1}}]),
        ["volume v: Secret ? -> csi, hostPath, projected"],
        id="a volume of nothing that is known",
    ),
    pytest.param(
        app(env=[env("A", valueFrom=SECRET_KEY)]),
        app(),
        ["container app: env A removed"],
        id="a reference goes: its name",
    ),
    pytest.param(
        {"spec": {"containers": [SIDECAR, SIDECAR, {"name": "app", "tty": True}]}},
        {"spec": {"containers": [SIDECAR, SIDECAR, {"name": "app"}]}},
        ["container app: tty removed"],
        id="two containers of one name that stay as they are",
    ),
    pytest.param(
        {"spec": {"containers": ["a"]}},
        {"spec": {"containers": ["b"]}},
        ["container ?: changes"],
        id="a container that is none",
    ),
    pytest.param(
        app(env=[env("A", valueFrom=SECRET_KEY)]),
        app(env=[env("A", value="x")]),
        ["container app: env A: Secret db key url -> a value"],
        id="a value instead of a Secret: not which",
    ),
    pytest.param(
        app(env=[env("A", valueFrom=SECRET_KEY), env("A", valueFrom=SECRET_KEY)]),
        app(env=[env("A", valueFrom=SECRET_KEY), env("A", valueFrom=CONFIG_KEY)]),
        [
            (
                "container app: env A: Secret db key url and Secret db key url -> db key url and "
                "ConfigMap web key url"
            )
        ],
        id="one name twice, from two places",
    ),
    pytest.param(
        app(env=[env("A", valueFrom={"fieldRef": {"x": 1}, "resourceFieldRef": {"y": 2}})]),
        app(env=[env("A", valueFrom=SECRET_KEY)]),
        ["container app: env A: fieldRef, resourceFieldRef -> Secret db key url"],
        id="from somewhere else",
    ),
    pytest.param(
        {"spec": {"containers": [SIDECAR, SIDECAR]}},
        {"spec": {"containers": [SIDECAR, {**SIDECAR, "args": ["-v"]}]}},
        ["container proxy: changes"],
        id="two containers of one name",
    ),
    pytest.param(
        {"spec": {"containers": [{"image": "a:1"}]}},
        {"spec": {"containers": [{"image": "a:2"}]}},
        ["container ?: image a:1 -> a:2"],
        id="a container without a name",
    ),
    pytest.param(
        a_template("i" * 401),
        a_template(""),
        [f"container app: image {'i' * 399}… -> none"],
        id="an image is cut, and may be none",
    ),
]


@pytest.mark.parametrize(("live", "wanted", "lines"), [*CONTAINERS, *ENV, *VALUES, *NAMES])
def test_a_change_is_a_line(live: Json, wanted: Json, lines: list[str]) -> None:
    assert changes_between(live, wanted) == lines


SUSPICIOUS = [
    pytest.param("/health?token=abc", id="a query"),
    pytest.param("//me:pass@host/", id="a user"),
    pytest.param("/" + "a" * 63, id="great length"),
    pytest.param("/a b", id="blanks"),
    pytest.param({"a": 1}, id="no scalar"),
]


@pytest.mark.parametrize("path", SUSPICIOUS)
def test_what_might_be_no_path_is_not_shown(path: Any) -> None:
    lines = changes_between(app(livenessProbe=probe(path)), app(livenessProbe=probe()))
    assert lines == ["container app: livenessProbe.httpGet.path changes"]


Hide = Callable[[str], Json]
HIDDEN: Final[list[Hide]] = [
    lambda s: app(env=[env("A", value=s)]),
    lambda s: app(env=[env("A", value=s), env("A", value=f"{s}!")]),
    lambda s: app(env=[env("A", valueFrom={"other": {"name": s, "key": s}})]),
    lambda s: app(command=["sh", "-c", s]),
    lambda s: app(args=[f"--password={s}"]),
    lambda s: app(workingDir=s),
    lambda s: app(lifecycle={"preStop": {"exec": {"command": [s]}}}),
    lambda s: app(livenessProbe={"exec": {"command": ["check", s]}}),
    lambda s: app(readinessProbe=probe(httpGet={"httpHeaders": [{"name": "A", "value": s}]})),
    lambda s: app(readinessProbe=probe(httpGet={"host": s})),
    lambda s: app(readinessProbe=probe(f"/?{s}")),
    lambda s: app(startupProbe={"grpc": {"service": s}}),
    lambda s: app(securityContext={"seLinuxOptions": {"level": s}}),
    lambda s: app(volumeMounts=[{"name": "v", "mountPath": "/v", "subPathExpr": s}]),
    lambda s: pod(containers=[{"name": "app", "image": {"why": s}}]),
    lambda s: meta(annotations={"vault": s}),
    lambda s: meta(labels={"app": s}),
    lambda s: pod(hostAliases=[{"hostnames": [s]}]),
    lambda s: pod(nodeSelector={"disk": s}),
    lambda s: pod(tolerations=[{"key": "a", "value": s}]),
    lambda s: pod(volumes=[{"name": "v", "csi": {"volumeAttributes": {"a": s}}}]),
    lambda s: pod(volumes=[{"name": "v", "hostPath": {"path": s}}]),
    lambda s: pod(securityContext={"sysctls": [{"name": "a", "value": s}]}),
    lambda s: pod(dnsConfig={"options": [{"name": "a", "value": s}]}),
    lambda s: pod(initContainers=[{"name": "i", "image": "i:1", "env": [env("A", value=s)]}]),
]
SECRETS = st.text(alphabet="0123456789abcdef", min_size=12, max_size=20).map("SECRET{}".format)


@given(st.sampled_from(HIDDEN), SECRETS, SECRETS, st.booleans())
def test_no_value_that_may_be_a_secret_gets_out(
    hide: Hide, secret: str, other: str, is_new: bool
) -> None:
    live, wanted = hide(secret), a_template(IMAGE) if is_new else hide(f"{other}x")
    for lines in (changes_between(live, wanted), changes_between(wanted, live)):
        assert lines
        assert "SECRET" not in json.dumps(lines)


def either(*values: Any) -> st.SearchStrategy[Any]:
    """Return one of some values, or one of the three ways to say nothing."""
    return st.sampled_from([None, {}, [], *values])


FLAGS = (False, True)
CONTAINER = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["app", "proxy"]),
        "image": st.sampled_from(["a:1", "a:2"]),
        "env": st.lists(
            st.builds(env, st.sampled_from("AB"), value=st.sampled_from("12")), max_size=3
        ),
        "resources": either({"limits": {"cpu": 1}}, {"limits": {"cpu": 2}}, {"claims": [1]}),
        "livenessProbe": either(probe(), probe("/b"), probe("/?"), {"exec": {"command": [""]}}),
        "ports": st.lists(st.sampled_from([port(1), port(2), port(1, name="a")]), max_size=2),
        "stdin": either(*FLAGS),
        "workingDir": either("", "/a"),
    }
)
TEMPLATES = st.fixed_dictionaries(
    {
        "metadata": either({"labels": {"a": "b"}}, {"labels": {"a": ""}, "annotations": {}}),
        "spec": st.fixed_dictionaries(
            {
                "containers": st.lists(CONTAINER, max_size=3),
                "initContainers": st.lists(CONTAINER, max_size=2),
                "volumes": st.lists(
                    st.sampled_from([{"name": "v", "emptyDir": {}}, {"name": "v"}, {"name": "w"}]),
                    max_size=3,
                ),
                "affinity": either({"nodeAffinity": {"a": [{}]}}, {"nodeAffinity": {"a": [1]}}),
            }
        ),
    }
)


@settings(max_examples=300)
@given(TEMPLATES, TEMPLATES)
def test_there_is_a_line_exactly_when_the_templates_differ(live: Json, wanted: Json) -> None:
    is_same = template_key(live) == template_key(wanted)
    assert (changes_between(live, wanted) == []) is is_same
    assert changes_between(live, live) == []


FIELDS = st.sampled_from(
    [
        *("name", "image", "env", "envFrom", "value", "valueFrom", "secretKeyRef", "configMapRef"),
        *("resources", "limits", "ports", "containerPort", "livenessProbe", "httpGet", "path"),
        *("volumes", "configMap", "mountPath", "volumeMounts"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=12,
)
LISTS = st.sampled_from(["containers", "initContainers", "volumes", "imagePullSecrets"])
SPECS = st.dictionaries(LISTS | FIELDS, ANYTHING | st.lists(ANYTHING, max_size=3), max_size=4)


@given(SPECS | ANYTHING, SPECS | ANYTHING)
def test_no_shape_of_a_template_raises_or_is_passed_over(live: Any, wanted: Any) -> None:
    one, other = {"spec": live}, {"spec": wanted}
    lines = changes_between(one, other)
    assert bool(lines) == (template_key(one) != template_key(other))
    assert [line for line in lines if "\n" in line or "<" in line] == []


def nested(depth: int, inner: object) -> object:
    for _ in range(depth):
        inner = {"a": inner}
    return inner


def test_what_is_nested_deeply_changes_by_where_it_begins() -> None:
    live, wanted = (pod(affinity=nested(100, leaf)) for leaf in (1, 2))
    (line,) = changes_between(live, wanted)
    assert line == f"spec.affinity{'.a' * (MAX_DEPTH - 2)} changes"


def test_a_huge_map_is_no_burden() -> None:
    live, wanted = (meta(annotations={f"k{n}": v for n in range(5000)}) for v in "ab")
    assert len(changes_between(live, wanted)) == 5000
