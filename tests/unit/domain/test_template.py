import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.domain.raw import Json
from incident_rollback.domain.template import (
    images_of,
    strip_noise,
    template_key,
    without_hash_label,
)
from tests.builders import a_template

IMAGE = "checkout:1.1"


def with_metadata(**metadata: Any) -> Json:
    template = a_template(IMAGE)
    return {**template, "metadata": {**template["metadata"], **metadata}}


EQUAL_MEANS_FUNCTIONALLY_EQUAL = [
    pytest.param(a_template(IMAGE, env=None), True, id="S10 null is absent"),
    pytest.param(a_template(IMAGE, env=[]), True, id="S10 an empty list is absent"),
    pytest.param(a_template(IMAGE, resources={"limits": {}}), True, id="S10 nested empty objects"),
    pytest.param(
        {key: a_template(IMAGE)[key] for key in ("spec", "metadata")},
        True,
        id="another order of keys",
    ),
    pytest.param(a_template(IMAGE, restarted="2026-11-23T02:00:00Z"), True, id="a restart stamp"),
    pytest.param(
        with_metadata(labels={"app": "checkout", "pod-template-hash": "x"}), True, id="the hash"
    ),
    pytest.param(a_template("checkout:1.2"), False, id="another image"),
    pytest.param(a_template(IMAGE, env=[{"name": "A", "value": "1"}]), False, id="an env"),
    pytest.param(a_template(IMAGE, unknownField={"new": 1}), False, id="a field nobody knows yet"),
    pytest.param(with_metadata(annotations={"a": "b"}), False, id="any other annotation"),
    pytest.param(a_template(IMAGE, tty=False), False, id="false is not absent"),
    pytest.param(a_template(IMAGE, ports=[{"containerPort": 0}]), False, id="0 is not absent"),
]


@pytest.mark.parametrize(("other", "is_equal"), EQUAL_MEANS_FUNCTIONALLY_EQUAL)
def test_equal_means_functionally_equal(other: Json, is_equal: bool) -> None:
    assert (template_key(a_template(IMAGE)) == template_key(other)) is is_equal


def test_the_order_of_a_list_counts() -> None:
    one, two = {"name": "A"}, {"name": "B"}
    assert template_key(a_template(IMAGE, env=[one, two])) != template_key(
        a_template(IMAGE, env=[two, one])
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(JSON)
def test_nothing_of_a_template_is_lost_or_changed_in_place(value: object) -> None:
    template = with_metadata(labels={"pod-template-hash": "x", "app": "checkout"})
    template["spec"]["containers"][0]["new"] = value
    before = copy.deepcopy(template)
    template_key(template)
    bare = without_hash_label(template)
    assert template == before
    assert bare["spec"] == before["spec"]
    assert bare["metadata"]["labels"] == {"app": "checkout"}


def test_noise_is_stripped_where_there_is_no_metadata() -> None:
    assert strip_noise({"spec": {}}) == {
        "spec": {},
        "metadata": {"labels": {}, "annotations": {}},
    }


def test_images_are_those_of_the_ordinary_containers_in_order() -> None:
    template: Json = {
        "spec": {
            "initContainers": [{"image": "init:1"}],
            "containers": [{"image": "b:1"}, {"image": "a:1"}, {}],
        }
    }
    assert images_of(template) == ("b:1", "a:1", "")
