import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.domain.names import dns_label, intent_of
from tests.builders import a_rollback

LABELS = [
    pytest.param("Checkout API", "checkout-api", id="case and spaces"),
    pytest.param("  --checkout__api.v2--  ", "checkout-api-v2", id="runs become one, trimmed"),
    pytest.param("Ｃｈｅｃｋｏｕｔ①", "checkout1", id="compatibility forms are folded (NFKC)"),
    pytest.param("STRASSE", "strasse", id="capitals"),
    pytest.param("Straße", "strasse", id="casefold, not lower"),
    pytest.param("結帳", "", id="nothing is left"),
    pytest.param("", "", id="empty"),
    pytest.param("-" * 80, "", id="only dashes"),
    pytest.param("a" * 80, "a" * 63, id="at most 63"),
    pytest.param("a" * 62 + " b", "a" * 62, id="trimmed again where it was cut"),
]


@pytest.mark.parametrize(("name", "label"), LABELS)
def test_dns_label(name: str, label: str) -> None:
    assert dns_label(name) == label


def test_a_label_may_be_shorter() -> None:
    assert dns_label("checkout service", 9) == "checkout"


@given(st.text())
def test_a_label_of_a_label_is_itself(name: str) -> None:
    label = dns_label(name)
    assert dns_label(label) == label
    assert len(label) <= 63


SAME_INTENT = [
    pytest.param({"uid": "made-again"}, True, id="made again: another uid"),
    pytest.param({"version": 9}, True, id="written since"),
    pytest.param({"name": "another"}, False, id="another name"),
    pytest.param({"namespace": "shop"}, False, id="another namespace"),
    pytest.param({"dry_run": True}, False, id="a preview"),
    pytest.param({"to": {"revision": 1}}, False, id="an aim"),
]


@pytest.mark.parametrize(("changes", "is_same"), SAME_INTENT)
def test_the_intent_outlives_the_resource(changes: dict[str, object], is_same: bool) -> None:
    first, second = intent_of(a_rollback()), intent_of(a_rollback(**changes))  # type: ignore[arg-type]
    assert (first == second) is is_same
    assert len(first) == 16
