import pytest

from incident_rollback.cli.options import workload_name
from incident_rollback.errors import InvalidRequestError


@pytest.mark.parametrize(
    "given",
    ["deploy/checkout", "deployment/checkout", "Deployments/checkout", "deployment.apps/checkout"],
)
def test_a_workload_is_named_as_for_kubectl(given: str) -> None:
    assert workload_name(given) == "checkout"


@pytest.mark.parametrize("given", ["checkout", "deploy/", "sts/checkout", ""])
def test_anything_else_is_wrong_use(given: str) -> None:
    with pytest.raises(InvalidRequestError, match="deploy/NAME"):
        workload_name(given)
