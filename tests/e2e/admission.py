"""Admission in the operator's way: policies of the API server's own, and webhooks that are away."""

import http.client
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

from tests.sandbox.api import Api, ApiError, Json, path_to
from tests.sandbox.waiting import wait_for

API_VERSION: Final = "admissionregistration.k8s.io/v1"
FIELD_MANAGER: Final = "incident-rollback"
NOWHERE: Final = "https://127.0.0.1:1/"
"""Nobody listens there."""
AWAY: Final = http.client.INTERNAL_SERVER_ERROR
"""What the API server answers when it has to ask a webhook that is away."""

BY_US: Final = {
    "name": "by-us",
    "expression": (
        f"has(request.options.fieldManager) && request.options.fieldManager == '{FIELD_MANAGER}'"
    ),
}
DRY_RUN: Final = {"name": "dry-run", "expression": "has(request.dryRun) && request.dryRun"}
FOR_REAL: Final = {"name": "for-real", "expression": f"!({DRY_RUN['expression']})"}


def rule(operation: str, resource: str, group: str = "") -> Json:
    """Return which requests a policy or a webhook is about, such as each CREATE of a pod."""
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": [operation],
        "resources": [resource],
    }


CHANGES: Final = rule("UPDATE", "deployments", "apps")


def here(namespace: str) -> Json:
    """Return the selector of one namespace."""
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


def webhook_path(name: str) -> str:
    """Return the path of a webhook by its name."""
    return path_to(API_VERSION, "validatingwebhookconfigurations", name=name)


def an_absent_webhook(name: str, namespace: str, about: Json, *conditions: Json) -> Json:
    """Return a webhook that must be asked in a namespace, and is away."""
    webhook = {
        "name": f"{name}.example.com",
        "clientConfig": {"url": NOWHERE},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": here(namespace),
        "rules": [about],
        "matchConditions": list(conditions),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"{name}-{namespace}"},
        "webhooks": [webhook],
    }


def a_policy(kind: str, name: str, spec: Json, binding: Json | None = None) -> Mapping[str, Json]:
    """Return a policy (`validating`, `mutating`) and what puts it in force, by their paths."""
    bodies: Mapping[str, Json] = {
        f"{kind}admissionpolicies": spec,
        f"{kind}admissionpolicybindings": {"policyName": name, **(binding or {})},
    }
    return {
        path_to(API_VERSION, plural, name=name): {"metadata": {"name": name}, "spec": body}
        for plural, body in bodies.items()
    }


@contextmanager
def in_force(
    api: Api, bodies: Mapping[str, Json], is_obeyed: Callable[[], bool], what: str
) -> Generator[None]:
    """Have objects there for as long as the block, which begins when the API server obeys."""
    try:
        for path, body in bodies.items():
            api.create(path.rpartition("/")[0], body)
        wait_for(is_obeyed, what)
        yield
    finally:
        for path in bodies:
            api.delete(path)


def is_away(request: Callable[[], object]) -> bool:
    """Say whether the API server has to ask a webhook for a request, and cannot."""
    try:
        request()
    except ApiError as error:
        if error.status != AWAY:
            raise
        return True
    return False
