"""
The alert rules, by Prometheus' own promtool: what makes each of them fire, and what does not.

A row is a minute by minute story of some series, and who is alarmed at its end.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

Object = dict[str, Any]

MONITORING = Path(__file__).parents[2] / "manifests" / "monitoring"
GROUPS: list[Object] = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
RULES: dict[str, Object] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}

P = "incident_rollback_"
ANYBODY: dict[str, str] = {}

Series = Mapping[str, str]
"""By name, without our prefix, and labels: a value a minute, as promtool writes them."""


def promtool(*words: str) -> str:
    """Run promtool; return what it has to complain about."""
    tool = shutil.which("promtool")
    if tool is None:
        pytest.fail("no promtool on PATH; on Debian or Ubuntu: apt-get install prometheus")
    done = subprocess.run(  # noqa: S603  # our own words
        [tool, *words], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def alarms(
    alert: str, what: str, minutes: int, series: Series, labels: Mapping[str, str] = ANYBODY
) -> Any:
    """After so many minutes somebody is alarmed, by these labels beside those of the rule."""
    name = f"IncidentRollback{alert}"
    return pytest.param(name, series, minutes, labels, id=f"{alert} fires: {what}")


def is_quiet(alert: str, what: str, minutes: int, series: Series) -> Any:
    """After so many minutes nobody is."""
    name = f"IncidentRollback{alert}"
    return pytest.param(name, series, minutes, None, id=f"{alert} is quiet: {what}")


CONTROLLERS = 'build_info{component="controller", pod="c-1"}'
BRIDGES = 'build_info{component="bridge", pod="b-1"}'
NOT_SIGNED = 'webhook_requests_total{code="401", reason="NotSigned"}'
UNAVAILABLE = 'webhook_requests_total{code="503", reason="Unavailable"}'
CROWDED = 'webhook_requests_total{code="503", reason="Crowded"}'
SUPERSEDED = 'executions_total{phase="Failed", reason="Superseded"}'
REFUSED = 'executions_total{phase="Refused", reason="Expired"}'
FLUX = 'reverted_total{manager="flux"}'

STORIES = [
    alarms("ControllerAbsent", "only bridges", 3, {BRIDGES: "1x9"}, {"component": "controller"}),
    is_quiet("ControllerAbsent", "there is one", 3, {CONTROLLERS: "1x9"}),
    is_quiet("ControllerAbsent", "gone for a minute", 3, {CONTROLLERS: "1 1 stale"}),
    alarms("BridgeAbsent", "only controllers", 3, {CONTROLLERS: "1x9"}, {"component": "bridge"}),
    is_quiet("BridgeAbsent", "there is one", 3, {BRIDGES: "1x9"}),
    is_quiet("BridgeAbsent", "gone for a minute", 3, {BRIDGES: "1 1 stale"}),
    alarms("NotReady", "for five minutes", 6, {'ready{pod="c-1"}': "0x9"}, {"pod": "c-1"}),
    is_quiet("NotReady", "it starts slowly", 4, {'ready{pod="c-1"}': "0x9"}),
    is_quiet("NotReady", "it is ready at last", 6, {'ready{pod="c-1"}': "0 0 0 0 1x9"}),
    alarms(
        "NotReady",
        "one of two",
        6,
        {'ready{pod="c-1"}': "1x9", 'ready{pod="c-2"}': "0x9"},
        {"pod": "c-2"},
    ),
    alarms("NoLeader", "two stand by", 3, {'leader{pod="c-1"}': "0x9", 'leader{pod="c-2"}': "0x9"}),
    is_quiet("NoLeader", "one leads", 3, {'leader{pod="c-1"}': "1x9", 'leader{pod="c-2"}': "0x9"}),
    is_quiet(
        "NoLeader",
        "a takeover",
        3,
        {'leader{pod="c-1"}': "1 1 1 0x9", 'leader{pod="c-2"}': "0x9"},
    ),
    alarms("WebhooksNotSigned", "a burst", 6, {NOT_SIGNED: "0 0 2 4 7x9"}),
    is_quiet("WebhooksNotSigned", "a few", 6, {NOT_SIGNED: "0 1 2 3x9"}),
    is_quiet("WebhooksNotSigned", "long ago", 20, {NOT_SIGNED: "500x20"}),
    alarms("WebhooksLost", "one is enough", 4, {UNAVAILABLE: "0 0 1x9"}, {"reason": "Unavailable"}),
    is_quiet("WebhooksLost", "a flood is turned away", 4, {CROWDED: "0 0 90x9"}),
    is_quiet("WebhooksLost", "long ago", 20, {UNAVAILABLE: "1x20"}),
    alarms(
        "Unfinished", "after half an hour", 2, {'oldest_unfinished_seconds{pod="c-1"}': "1790+60x9"}
    ),
    is_quiet(
        "Unfinished", "as long as a policy lets it", 9, {"oldest_unfinished_seconds": "900+60x9"}
    ),
    is_quiet("Unfinished", "it ended just in time", 2, {"oldest_unfinished_seconds": "1790 0x9"}),
    alarms(
        "Failed",
        "the first of its reason",
        4,
        {SUPERSEDED: "0 0 1x9", REFUSED: "0x9"},
        {"reason": "Superseded"},
    ),
    is_quiet("Failed", "a refusal changes nothing", 4, {REFUSED: "0 0 5x9"}),
    is_quiet("Failed", "long ago", 20, {SUPERSEDED: "3x20"}),
    is_quiet("Failed", "the process was restarted", 4, {SUPERSEDED: "3 3 0 0x9"}),
    alarms("Reverted", "once", 4, {FLUX: "0 0 1x9"}, {"manager": "flux"}),
    is_quiet("Reverted", "never", 4, {FLUX: "0x9", 'reverted_total{manager="kubectl"}': "0x9"}),
    alarms(
        "WatchStalled",
        "the list fails",
        5,
        {'list_age_seconds{pod="c-1"}': "60+60x9"},
        {"pod": "c-1"},
    ),
    alarms(
        "WatchStalled",
        "it never worked",
        3,
        {'list_age_seconds{pod="c-1"}': "+Inf+0x9"},
        {"pod": "c-1"},
    ),
    alarms(
        "WatchStalled",
        "the watch does not run",
        3,
        {'watch_age_seconds{pod="c-1"}': "0x9"},
        {"pod": "c-1"},
    ),
    is_quiet(
        "WatchStalled",
        "it is started again",
        5,
        {"list_age_seconds": "30 55 10 40x9", "watch_age_seconds": "60 120 180 240 0x9"},
    ),
    alarms("WatchMissed", "again and again", 5, {"watch_missed_total": "0 2 4 6x9"}),
    is_quiet("WatchMissed", "once: the list is for that", 5, {"watch_missed_total": "0 1 1x9"}),
    alarms("IncidentNotTold", "for ten minutes", 2, {"updates_oldest_pending_seconds": "580+60x9"}),
    alarms(
        "IncidentNotTold",
        "an outage of hours",
        5 * 60,
        {"updates_oldest_pending_seconds": "0+60x400"},
    ),
    alarms(
        "IncidentNotTold",
        "and the controller was restarted in it",
        4,
        {
            'updates_oldest_pending_seconds{pod="c-1"}': "7200 7260 stale",
            'updates_oldest_pending_seconds{pod="c-2"}': "0 0 0 7380+60x9",
        },
    ),
    is_quiet(
        "IncidentNotTold", "it ended", 5, {"updates_oldest_pending_seconds": "17940 18000 0x9"}
    ),
    is_quiet(
        "IncidentNotTold",
        "a look before it is posted",
        3,
        {"updates_oldest_pending_seconds": "0 90 150 0x9"},
    ),
    alarms("UpdateGivenUp", "once", 4, {"updates_given_up_total": "0 0 1x9"}),
    is_quiet("UpdateGivenUp", "never", 4, {"updates_given_up_total": "0x9"}),
    is_quiet("EnvironmentNotReady", "for ten minutes", 10, {'environments{ready="False"}': "1x30"}),
    alarms(
        "EnvironmentNotReady",
        "as the one that leads sees it",
        16,
        {
            'environments{ready="False", pod="c-1"}': "1x30",
            'environments{ready="False", pod="c-2"}': "0x30",
        },
    ),
    is_quiet(
        "EnvironmentNotReady", "it was mended", 16, {'environments{ready="False"}': "1x9 0x30"}
    ),
    is_quiet(
        "EnvironmentNotReady",
        "not known before it is asked",
        16,
        {'environments{ready="Unknown"}': "3x30"},
    ),
]


@pytest.mark.parametrize(("alert", "series", "minutes", "fires"), STORIES)
def test_who_is_alarmed(
    tmp_path: Path, alert: str, series: Series, minutes: int, fires: Mapping[str, str] | None
) -> None:
    rule = {key: value for key, value in RULES[alert].items() if key != "annotations"}
    written(tmp_path / "rules.yaml", {"groups": [{"name": "one", "rules": [rule]}]})
    alarmed = [] if fires is None else [{"exp_labels": {**rule["labels"], **fires}}]
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f"{P}{name}", "values": values} for name, values in series.items()
        ],
        "alert_rule_test": [
            {"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": alarmed}
        ],
    }
    told = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    assert promtool("test", "rules", str(written(tmp_path / "test.yaml", told))) == ""


def written(path: Path, document: object) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    told = {(one.values[0], one.values[3] is None) for one in STORIES}
    assert told == {(alert, is_silent) for alert in RULES for is_silent in (True, False)}


def test_the_rules_and_their_words_are_well_formed(tmp_path: Path) -> None:
    assert promtool("check", "rules", str(written(tmp_path / "all.yaml", {"groups": GROUPS}))) == ""


def test_what_the_dashboard_asks_is_well_formed(tmp_path: Path) -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    rules = [
        {"record": f"panel:{number}", "expr": filled(expression)}
        for number, expression in enumerate(asked)
    ]
    group = {"groups": [{"name": "dashboard", "rules": rules}]}
    assert promtool("check", "rules", str(written(tmp_path / "panels.yaml", group))) == ""


def filled(expression: str) -> str:
    """Put something in the place of what Grafana fills in."""
    for variable, value in {"$__rate_interval": "5m", "$__range": "6h", "$namespace": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression
