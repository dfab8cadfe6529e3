"""What a pod template needs beside itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.domain.raw import Json
from incident_rollback.domain.references import MAX_NAME, configuration_of, references_of
from incident_rollback.domain.surroundings import Reference, ReferenceKind


def of_pod(**spec: Any) -> Json:
    return {"spec": {"containers": [{"name": "app"}], **spec}}


def of_volume(**volume: Any) -> Json:
    return of_pod(volumes=[{"name": "v", **volume}])


def of_env(source: str, name: str, **more: Any) -> Json:
    variable = {"name": "A", "valueFrom": {source: {"name": name, "key": "k", **more}}}
    return of_pod(containers=[{"env": [variable]}])


def of_env_from(source: str, name: str, **more: Any) -> Json:
    return of_pod(containers=[{"envFrom": [{source: {"name": name, **more}}]}])


def projected(**source: Any) -> Json:
    return of_volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}, source]})


NEEDED: list[Any] = [
    pytest.param(of_volume(configMap={"name": "a"}), "ConfigMap", id="a volume of a ConfigMap"),
    pytest.param(of_volume(secret={"secretName": "a"}), "Secret", id="a volume of a Secret"),
    pytest.param(projected(configMap={"name": "a"}), "ConfigMap", id="a projected ConfigMap"),
    pytest.param(projected(secret={"name": "a"}), "Secret", id="a projected Secret"),
    pytest.param(
        of_volume(persistentVolumeClaim={"claimName": "a"}),
        "PersistentVolumeClaim",
        id="a claim",
    ),
    pytest.param(
        of_volume(csi={"driver": "d", "nodePublishSecretRef": {"name": "a"}}),
        "Secret",
        id="the Secret of a CSI volume",
    ),
    pytest.param(of_env("configMapKeyRef", "a"), "ConfigMap", id="a key of a ConfigMap in env"),
    pytest.param(of_env("secretKeyRef", "a"), "Secret", id="a key of a Secret in env"),
    pytest.param(of_env_from("configMapRef", "a"), "ConfigMap", id="envFrom a ConfigMap"),
    pytest.param(of_env_from("secretRef", "a"), "Secret", id="envFrom a Secret"),
    pytest.param(
        of_env("secretKeyRef", "a", optional=False), "Secret", id="what is said not to be optional"
    ),
    pytest.param(
        of_pod(initContainers=[{"envFrom": [{"secretRef": {"name": "a"}}]}]),
        "Secret",
        id="an init container",
    ),
    pytest.param(of_pod(imagePullSecrets=[{"name": "a"}]), "Secret", id="a pull Secret"),
    pytest.param(of_pod(serviceAccountName="a"), "ServiceAccount", id="a ServiceAccount"),
    pytest.param(
        of_pod(serviceAccount="a"), "ServiceAccount", id="a ServiceAccount by its old field"
    ),
    pytest.param(
        of_pod(serviceAccount="b", serviceAccountName="a"),
        "ServiceAccount",
        id="the old field does not count beside the new one",
    ),
    pytest.param(of_pod(priorityClassName="a"), "PriorityClass", id="a PriorityClass"),
    pytest.param(of_pod(runtimeClassName="a"), "RuntimeClass", id="a RuntimeClass"),
]


@pytest.mark.parametrize(("template", "kind"), NEEDED)
def test_what_pods_do_not_start_without(template: Json, kind: ReferenceKind) -> None:
    assert references_of(template) == {Reference(kind, "a")}


NOT_NEEDED = [
    pytest.param(of_pod(), id="nothing is named"),
    pytest.param(of_volume(configMap={"name": "a", "optional": True}), id="an optional volume"),
    pytest.param(of_volume(secret={"secretName": "a", "optional": True}), id="an optional Secret"),
    pytest.param(projected(secret={"name": "a", "optional": True}), id="optional and projected"),
    pytest.param(of_env("configMapKeyRef", "a", optional=True), id="an optional key"),
    pytest.param(of_env_from("secretRef", "a", optional=True), id="an optional envFrom"),
    pytest.param(of_volume(emptyDir={}), id="a volume of nothing"),
    pytest.param(of_pod(serviceAccountName="default"), id="the account that is always there"),
    pytest.param(of_pod(priorityClassName="system-node-critical"), id="a class of Kubernetes' own"),
    pytest.param(of_env("fieldRef", "a"), id="a field of the pod itself"),
]


@pytest.mark.parametrize("template", NOT_NEEDED)
def test_what_pods_start_without(template: Json) -> None:
    assert references_of(template) == frozenset()


def test_what_is_named_twice_is_one_thing() -> None:
    container = {"envFrom": [{"secretRef": {"name": "a"}}, {"configMapRef": {"name": "a"}}]}
    template = of_pod(containers=[container, container], imagePullSecrets=[{"name": "a"}])
    assert references_of(template) == {Reference("Secret", "a"), Reference("ConfigMap", "a")}


CONFIGURATION = [
    pytest.param(of_volume(configMap={"name": "a"}), True, id="a volume of a ConfigMap"),
    pytest.param(of_env("secretKeyRef", "a"), True, id="a key of a Secret"),
    pytest.param(of_pod(imagePullSecrets=[{"name": "a"}]), False, id="who pulls sees it, not they"),
    pytest.param(
        of_volume(csi={"nodePublishSecretRef": {"name": "a"}}), False, id="what opens a volume"
    ),
    pytest.param(
        of_volume(persistentVolumeClaim={"claimName": "a"}), False, id="a claim is no configuration"
    ),
    pytest.param(of_pod(serviceAccountName="a"), False, id="nor is an account"),
]


@pytest.mark.parametrize(("template", "is_seen"), CONFIGURATION)
def test_the_configuration_that_containers_see(template: Json, is_seen: bool) -> None:
    needed = references_of(template)
    assert needed
    assert configuration_of(template) == (needed if is_seen else frozenset())


SHAPELESS = [
    pytest.param({}, id="no spec"),
    pytest.param({"spec": None}, id="null for the spec"),
    pytest.param({"spec": ["a"]}, id="a list for the spec"),
    pytest.param(of_pod(volumes={"secret": {"secretName": "a"}}), id="a map for a list"),
    pytest.param(of_pod(volumes=[None, 1, "a", []]), id="anything for a volume"),
    pytest.param(of_volume(secret="a"), id="a string for a source"),
    pytest.param(of_volume(secret={"secretName": ["a"]}), id="a list for a name"),
    pytest.param(of_volume(configMap={"name": 7}), id="a number for a name"),
    pytest.param(of_volume(configMap={"name": ""}), id="no name"),
    pytest.param(of_volume(configMap={"name": "a" * (MAX_NAME + 1)}), id="a name without end"),
    pytest.param(of_pod(priorityClassName={"a": 1}), id="a map for a class"),
    pytest.param(of_pod(containers=[{"env": {"a": 1}, "envFrom": "a"}]), id="no lists at all"),
    pytest.param(of_pod(containers=[{"env": [{"valueFrom": [1]}]}]), id="a list for a map"),
]


@pytest.mark.parametrize("template", SHAPELESS)
def test_what_has_no_shape_refers_to_nothing(template: Json) -> None:
    assert references_of(template) == configuration_of(template) == frozenset()


KEYS = st.sampled_from(
    [
        *("containers", "initContainers", "env", "valueFrom", "secretKeyRef", "configMapKeyRef"),
        *("envFrom", "configMapRef", "secretRef", "name", "optional", "volumes", "configMap"),
        *("secret", "secretName", "projected", "sources", "csi", "nodePublishSecretRef"),
        *("persistentVolumeClaim", "claimName", "imagePullSecrets", "serviceAccountName"),
        *("runtimeClassName", "priorityClassName"),
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, ANYTHING, max_size=4))
def test_whatever_a_template_is_it_has_references_with_names(spec: Json) -> None:
    needed = references_of({"spec": spec})
    assert all(0 < len(reference.name) <= MAX_NAME for reference in needed)
    assert configuration_of({"spec": spec}) <= needed


@pytest.mark.parametrize(("length", "is_one"), [(253, True), (254, False), (0, False)])
def test_a_name_is_as_long_as_kubernetes_lets_it_be(length: int, is_one: bool) -> None:
    found = references_of({"spec": {"runtimeClassName": "r" * length}})
    assert bool(found) is is_one
