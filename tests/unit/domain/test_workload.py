import pytest

from incident_rollback.domain.workload import Revision, Workload, WorkloadRef
from tests.builders import a_pod, a_revision, a_workload

LIVE = [
    pytest.param(a_workload(), 2, id="the one with the live template"),
    pytest.param(
        a_workload(a_revision(3, like=2, restarted="now"), a_revision(2), a_revision(1)),
        3,
        id="of functionally equal ones the newest",
    ),
    pytest.param(
        a_workload(template=a_revision(9).template), None, id="P2 its ReplicaSet is not there yet"
    ),
    pytest.param(
        a_workload(a_revision(2), a_revision(1), template=a_revision(1).template),
        1,
        id="never simply the highest number",
    ),
]


@pytest.mark.parametrize(("workload", "number"), LIVE)
def test_live(workload: Workload, number: int | None) -> None:
    live = workload.live
    assert (live.number if live else None) == number


OBSERVED = [
    pytest.param(a_workload(), True, id="caught up"),
    pytest.param(a_workload(generation=8), False, id="P1 the newest change is not taken up"),
    pytest.param(
        a_workload(template=a_revision(9).template), False, id="P2 no ReplicaSet of it yet"
    ),
]


@pytest.mark.parametrize(("workload", "is_observed"), OBSERVED)
def test_is_observed(workload: Workload, is_observed: bool) -> None:
    assert workload.is_observed is is_observed


NUMBERS = [
    pytest.param(a_revision(3, history=(1, 2)), (1, 2, 3), id="ascending, with what it was"),
    pytest.param(a_revision(3, history=(3,)), (3,), id="without duplicates"),
    pytest.param(a_revision(0), (), id="S7 garbage is no number"),
    pytest.param(a_revision(10, history=(9,)), (9, 10), id="S6 9 is below 10"),
]


@pytest.mark.parametrize(("revision", "numbers"), NUMBERS)
def test_numbers(revision: Revision, numbers: tuple[int, ...]) -> None:
    assert revision.numbers == numbers


def test_pods_of_a_revision_are_those_that_stay() -> None:
    mine, going, other = a_pod(2), a_pod(2, is_deleting=True), a_pod(1)
    workload = a_workload(pods=(mine, going, other))
    assert workload.pods_of(a_revision(2)) == (mine,)


def test_a_revision_is_found_by_its_hash() -> None:
    workload = a_workload()
    assert workload.revision("hash-1") is workload.revisions[1]
    assert workload.revision("pruned") is None


def test_a_reference_reads_well() -> None:
    assert str(WorkloadRef("shop", "checkout")) == "deployment shop/checkout"
