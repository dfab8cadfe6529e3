"""docs/benchmark.md, made of samples alone; what people have written below it stays. Pure."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

from tests.bench.budgets import BUDGETS, Budget, quantile
from tests.bench.plan import FULL
from tests.bench.samples import Samples, Step

END: Final = "<!-- end of what `make bench` writes -->"
"""What follows in the page is written by people."""
HEAD: Final = """\
# Benchmark

`make bench` wrote this page down to the mark, of the samples in `benchmark/samples.json`. One run
on one machine measures ours and what people would use instead in turns: Debian's `webhook` with a
hook that runs `kubectl rollout undo`, and that command alone. Pods are simulated; the API server,
etcd, the controllers, the scheduler and all requests are real. A patch is in, and a resource is
made, when the API server has answered, by its audit log. A MB is 1,000,000 bytes, of RSS.
"""
COMPARED: Final = (
    ("ours: POST to answer", "ours: POST to answer, ms"),
    ("ours: POST to resource created", "ours: POST to created, ms"),
    ("ours: created to patch", "ours: created to patch, ms"),
    ("ours: POST to patch", "ours: POST to patch, ms"),
    ("ours: POST to patch, after 20 s of quiet", "ours: POST to patch after quiet, ms"),
    ("ours: POST to the first note on the incident", "ours: POST to first note, ms"),
    ("`webhook`: POST to answer", "webhook: POST to answer, ms"),
    ("`webhook`: POST to patch", "webhook: POST to patch, ms"),
    ("`kubectl rollout undo`: exec to patch", "kubectl: exec to patch, ms"),
    ("`ansible-rulebook`: POST to patch", "ansible-rulebook: POST to patch, ms"),
)
AT_ONCE: Final = (
    ("ours: 20 on 20 workloads, all patched", "ours: 20 on 20, all patched, ms"),
    ("`webhook`: 20 on 20, all patched", "webhook: 20 on 20, all patched, ms"),
    ("`kubectl rollout undo`: 20 on 20, all patched", "kubectl: 20 on 20, all patched, ms"),
    ("`kubectl rollout undo`: 20 at once, all through", "kubectl: 20 at once, all through, ms"),
    ("ours: 200 on 200 workloads, all patched", "ours: 200 on 200, all patched, ms"),
    ("ours: of them not patched within two minutes", "ours: 200 on 200, not patched"),
    ("ours: of them sent again, for the bridge takes 100 at once", "ours: sent again, 200 at once"),
    ("ours: an answer, 20 incidents at once", "ours: answers, 20 at once, ms"),
    ("ours: an answer, 20 repeats at once", "ours: answers, 20 repeats at once, ms"),
    ("ours: an answer, 200 incidents at once", "ours: answers, 200 at once, ms"),
)
PROCESSES: Final = (
    ("bridge: memory, idle (MB)", "bridge: memory idle, MB"),
    ("bridge: memory, after 50 at once (MB)", "bridge: memory after 50 at once, MB"),
    ("bridge: memory, at its peak (MB)", "bridge: memory at its peak, MB"),
    ("controller: memory, idle (MB)", "controller: memory idle, MB"),
    ("controller: memory, after 50 at once (MB)", "controller: memory after 50 at once, MB"),
    ("controller: memory, at its peak (MB)", "controller: memory at its peak, MB"),
    ("controller: memory, 5,000 settled resources there (MB)", "controller: memory with old, MB"),
    ("controller: memory, none there (MB)", "controller: memory without old, MB"),
    ("bridge: exec to ready", "bridge: exec to ready, ms"),
    ("controller: exec to ready", "controller: exec to ready, ms"),
    ("controller: exec to ready, 5,000 there", "controller: exec to ready with old, ms"),
    ("controller: exec to ready, none there", "controller: exec to ready without old, ms"),
    ("bridge: SIGTERM to gone", "bridge: SIGTERM to gone, ms"),
    ("controller: SIGTERM to gone", "controller: SIGTERM to gone, ms"),
    ("leader: SIGTERM to the patch of a new request", "controller: SIGTERM to the next patch, ms"),
    ("leader: SIGKILL to the patch of a new request", "controller: SIGKILL to the next patch, ms"),
    ("API server back to the next patch", "ours: API server back to the next patch, ms"),
)
COST: Final = (
    ("requests to the API server, without polling", "ours: requests to the API server"),
    ("of them writes: status, patch, Events", "ours: writes"),
    ("of them writes of the status", "ours: status writes"),
    ("reads after the patch: polling", "ours: polls of the API server"),
    ("requests to FireHydrant", "ours: requests to FireHydrant"),
    ("CPU of both processes, without idling (ms)", "ours: CPU for a rollback, ms"),
    ("CPU of both in a second of idling (ms)", "ours: CPU in a second of idling, ms"),
)


def page_of(samples: Samples, written_below: str = "") -> str:
    """Return the whole page, with what people have written below the mark."""
    parts = [
        HEAD,
        _warning(samples),
        _section("The machine", _machine(samples)),
        _section("The budgets of the design, §7", _budgets(samples, BUDGETS)),
        _section("One rollback at a time, ms", _figures(samples, COMPARED)),
        _section("Many at once, ms", _figures(samples, AT_ONCE)),
        _section("The processes, ms where nothing else is said", _figures(samples, PROCESSES)),
        _section("What one rollback costs", _figures(samples, COST)),
        _section("Where the time to the patch goes", _steps(samples.steps, is_after=False)),
        _section("What follows the patch", _steps(samples.steps, is_after=True)),
        END + "\n",
    ]
    return "\n".join(part for part in parts if part) + written_below


def below(page: str) -> str:
    """Return what people have written below the mark of an earlier page."""
    return page.partition(END + "\n")[2]


def _warning(samples: Samples) -> str:
    if samples.n >= FULL:
        return ""
    return f"**A quick look at {samples.n} rollbacks: its figures count for nothing.**\n"


def _section(title: str, lines: Iterable[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) + "\n"


def _machine(samples: Samples) -> list[str]:
    told = [f"- {name}: {value}" for name, value in samples.machine.items()]
    return told + [f"- {note}" for note in samples.notes]


def _budgets(samples: Samples, budgets: Sequence[Budget]) -> list[str]:
    rows = ["| budget | limit | measured | |", "|---|---|---|---|"]
    for budget in budgets:
        figure = budget.figure(samples)
        shown = "not measured" if figure is None else f"{figure:,.{budget.digits}f} {budget.unit}"
        verdict = "holds" if budget.is_kept_by(figure) else "**missed**"
        rows.append(f"| {budget.text} | {budget.bound} | {shown.rstrip()} | {verdict} |")
    return rows


def _figures(samples: Samples, named: Sequence[tuple[str, str]]) -> list[str]:
    rows = ["| | p50 | p95 | max | n |", "|---|---|---|---|---|"]
    for text, name in named:
        values = samples.of(name)
        if values:
            figures = (statistics.median(values), quantile(values, 0.95), max(values))
            shown = " | ".join(f"{figure:,.1f}" for figure in figures)
            rows.append(f"| {text} | {shown} | {len(values)} |")
    return rows


def _steps(steps: Sequence[Step], *, is_after: bool) -> list[str]:
    """Show each kind of request in the median rollback: what is not covered is our own work."""
    said = (
        "Requests to the API server in the median rollback; of several of a kind `begins` is of",
        "the first, from the POST on, and `lasts` of the longest. What no request covers is the",
        "work of our own processes.",
    )
    rows = ["| who | request | times | begins, ms | lasts, ms |", "|---|---|---|---|---|"]
    for step in steps:
        if step.is_after is is_after:
            shown = f"{step.times:g} | {step.begins_ms:.1f} | {step.lasts_ms:.1f}"
            rows.append(f"| {step.who} | {step.what} | {shown} |")
    return rows if is_after else [*said, "", *rows]
