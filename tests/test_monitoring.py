"""What is watched over exists: metrics and labels in rules and dashboard, and pages for alerts."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from incident_rollback.telemetry.metrics import BridgeMetrics, ControllerMetrics

Object = dict[str, Any]

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "manifests" / "monitoring"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES: list[Object] = [
    rule
    for group in yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
    for rule in group["rules"]
]
DASHBOARD: Object = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
PANELS: list[Object] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

OF_TARGETS = frozenset({"namespace", "pod"})
"""Labels that Prometheus puts on what it scrapes from a pod."""
OF_SERIES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
"""By the type of a metric: how its series end."""


def metrics() -> Iterator[Metric]:
    for registry in (ControllerMetrics().registry, BridgeMetrics().registry):
        yield from registry.collect()


def labels_by_series() -> dict[str, set[str]]:
    """Return the labels of every series that can be asked for, by its name."""
    made = [ControllerMetrics(), BridgeMetrics()]
    kept = [vars(one) for one in made]
    names = {
        metric._name: set(metric._labelnames)
        for one in kept
        for metric in one.values()
        if hasattr(metric, "_labelnames")
    }
    names["incident_rollback_build_info"] = {"version", "component"}
    return {
        f"{family.name}{end}": names[family.name] | ({"le"} if end == "_bucket" else set())
        for family in metrics()
        for end in OF_SERIES[family.type]
    }


SERIES = labels_by_series()
EXPRESSIONS = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES),
    *(
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_series_that_is_asked_for_is_there_with_its_labels(expression: str) -> None:
    asked = re.findall(r"(incident_rollback_\w+)(?:\{([^}]*)\})?", expression)
    assert asked
    grouped = {
        label for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(", ")
    }
    for name, selector in asked:
        assert name in SERIES
        selected = set(re.findall(r"(\w+)(?:!=|=~|!~|=)", selector))
        assert selected | grouped <= SERIES[name] | OF_TARGETS


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])
    assert {family.name for family in metrics() if family.name not in shown} == set()


def test_panels_are_numbered_apart_and_do_not_overlap() -> None:
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in every)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_dashboard_asks_the_source_and_the_namespace_that_are_chosen() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == [
        "datasource",
        "namespace",
    ]
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            series = re.findall(r"incident_rollback_\w+\{", target["expr"])
            assert target["expr"].count('{namespace=~"$namespace"') == len(series)


def test_the_dashboard_is_found_by_its_label() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert generated["files"] == ["dashboard.json"]
    assert generated["options"]["labels"]["grafana_dashboard"] == "1"


def test_every_pod_of_ours_is_scraped() -> None:
    spec = yaml.safe_load((MONITORING / "pod-monitor.yaml").read_text())["spec"]
    ports = {endpoint["port"] for endpoint in spec["podMetricsEndpoints"]}
    for name in ("bridge", "controller"):
        documents = yaml.safe_load_all((ROOT / f"manifests/base/{name}.yaml").read_text())
        (deployment,) = (one for one in documents if one and one["kind"] == "Deployment")
        template = deployment["spec"]["template"]
        assert spec["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        assert ports <= {port["name"] for port in container["ports"]}


# The pages


def anchors(page: str) -> list[str]:
    """Return the anchors of a page's headings, as they are made for links."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE
    )
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_so_and_where_it_is_explained(rule: Object) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    told = rule["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert told["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
    assert anchors(OPERATIONS).count(rule["alert"].lower()) == 1


def test_no_page_explains_an_alert_that_is_not_there() -> None:
    explained = re.findall(r"^#+ (IncidentRollback\w+)$", OPERATIONS, re.MULTILINE)
    assert explained == [rule["alert"] for rule in RULES]


def test_links_within_the_page_lead_somewhere() -> None:
    linked = re.findall(r"\]\(#([^)]+)\)", OPERATIONS)
    assert linked
    assert set(linked) <= set(anchors(OPERATIONS))
