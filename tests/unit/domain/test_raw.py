from typing import Any

import pytest

from incident_rollback.domain.raw import as_list, as_map, child, children, number, text

NOTHING = [
    pytest.param({}, id="absent"),
    pytest.param({"a": None}, id="null"),
    pytest.param({"a": {}}, id="empty"),
]


@pytest.mark.parametrize("raw", NOTHING)
def test_null_empty_and_absent_are_the_same(raw: dict[str, Any]) -> None:
    assert child(raw, "a", "b") == {}
    assert children(raw, "a") == []
    assert text(raw, "a") == ""
    assert number(raw, "a") == 0


def test_what_is_there_is_read() -> None:
    raw = {"a": {"b": {"c": 1}}, "list": [{"x": 1}], "n": 3, "t": "x"}
    assert child(raw, "a", "b") == {"c": 1}
    assert children(raw, "list") == [{"x": 1}]
    assert (number(raw, "n"), text(raw, "t")) == (3, "x")


def test_the_object_is_a_copy() -> None:
    raw: dict[str, Any] = {"a": {"b": 1}}
    child(raw, "a").clear()
    assert raw == {"a": {"b": 1}}


SHAPES = [
    pytest.param({"a": 1}, {"a": 1}, [], id="an object"),
    pytest.param([1], {}, [1], id="a list"),
    pytest.param("ab", {}, [], id="a string is no list of letters"),
    pytest.param(None, {}, [], id="nothing"),
]


@pytest.mark.parametrize(("value", "as_a_map", "as_a_list"), SHAPES)
def test_any_shape_is_read(value: object, as_a_map: dict[str, int], as_a_list: list[int]) -> None:
    assert (as_map(value), as_list(value)) == (as_a_map, as_a_list)
