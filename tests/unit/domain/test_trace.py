import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.crd.v1alpha1 import MAX_TRACE, TRACE_ANNOTATION, IncidentRollback
from incident_rollback.domain.trace import Trace, read_parent, read_trace, trace_of
from tests.builders import a_rollback

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{ID}-{SPAN}-01"
UID = "0f7e2c1a-5b1d-4c56-9a34-0d2f6f0f9e11"

PARENTS = [
    pytest.param(PARENT, Trace(ID, SPAN), id="recorded by whoever sent it"),
    pytest.param(f"00-{ID}-{SPAN}-00", Trace(ID, SPAN, is_sampled=False), id="not recorded"),
    pytest.param(f"00-{ID}-{SPAN}-03", Trace(ID, SPAN), id="other flags are not ours"),
    pytest.param(f"00-{ID}-{SPAN}-10", Trace(ID, SPAN, is_sampled=False), id="flags are hex"),
    pytest.param(f"00-{ID}-{SPAN}-0f", Trace(ID, SPAN), id="flags of letters"),
    pytest.param(f"01-{ID}-{SPAN}-00", Trace(ID, SPAN, is_sampled=False), id="a later version"),
    pytest.param(f"ff-{ID}-{SPAN}-01", None, id="the version that is none"),
    pytest.param(PARENT.upper(), None, id="upper case"),
    pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="the trace that is none"),
    pytest.param(f"00-{ID}-{'0' * 16}-01", None, id="the span that is none"),
    pytest.param(f" {PARENT}", None, id="a blank before it"),
    pytest.param(f"{PARENT}\n", None, id="a line break behind it"),
    pytest.param(f"{PARENT}-more", None, id="more than that"),
    pytest.param(f"00-{ID}-{SPAN}", None, id="less than that"),
    pytest.param(ID, None, id="the id alone is no header"),
    pytest.param("", None, id="nothing"),
]


@pytest.mark.parametrize(("header", "trace"), PARENTS)
def test_a_traceparent_is_read_strictly(header: str, trace: Trace | None) -> None:
    assert read_parent(header) == trace


TEXTS = [
    pytest.param(ID, Trace(ID), id="the id alone"),
    pytest.param(PARENT, Trace(ID, SPAN), id="with its span"),
    pytest.param("0" * 32, None, id="the trace that is none"),
    pytest.param(ID[:-1], None, id="too short"),
    pytest.param(f"{ID}0", None, id="too long"),
    pytest.param(f"{ID}\n", None, id="a line break behind it"),
]


@pytest.mark.parametrize(("text", "trace"), TEXTS)
def test_an_annotation_may_have_the_id_alone(text: str, trace: Trace | None) -> None:
    assert read_trace(text) == trace


@pytest.mark.parametrize(
    "trace", [Trace(ID), Trace(ID, SPAN), Trace(ID, SPAN, is_sampled=False)], ids=str
)
def test_what_is_written_is_read_again(trace: Trace) -> None:
    assert read_trace(str(trace)) == trace


@given(st.text() | st.from_regex(r"[0-9a-f-]{0,60}"))
def test_whatever_is_read_is_short_and_harmless(text: str) -> None:
    trace = read_trace(text)
    assert trace is None or str(trace).strip("0123456789abcdef-") == ""


def annotated(text: object, uid: str = UID) -> IncidentRollback:
    raw = a_rollback(uid=uid).model_dump(mode="json", by_alias=True, exclude_none=True)
    raw["metadata"]["annotations"] = {TRACE_ANNOTATION: text, "example.com/other": "x" * 1000}
    return IncidentRollback.model_validate(raw)


BY_UID = Trace(UID.replace("-", ""))
TRACES = [
    pytest.param(annotated(PARENT), Trace(ID, SPAN), id="of the request that made it"),
    pytest.param(annotated(ID), Trace(ID), id="of a request without a span"),
    pytest.param(a_rollback(uid=UID), BY_UID, id="made by kubectl: by its uid"),
    pytest.param(annotated("x" * 100_000), BY_UID, id="what is no trace counts for nothing"),
    pytest.param(annotated(PARENT + " " * 99), BY_UID, id="nor does what only begins like one"),
    pytest.param(a_rollback(uid="no-uuid"), None, id="no trace, and no UUID"),
]


@pytest.mark.parametrize(("rollback", "trace"), TRACES)
def test_every_resource_has_a_trace(rollback: IncidentRollback, trace: Trace | None) -> None:
    assert trace_of(rollback) == trace


@pytest.mark.parametrize(("text", "kept"), [(ID, ID), ("x" * 100_000, "x" * MAX_TRACE)])
def test_only_the_beginning_of_our_annotation_is_kept(text: str, kept: str) -> None:
    annotations = annotated(text).metadata.annotations
    assert annotations is not None
    assert annotations.model_dump(by_alias=True) == {TRACE_ANNOTATION: kept}
