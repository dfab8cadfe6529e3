"""Rollbacks, previews and histories as pages; pure, so that tests can read them."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from incident_rollback.cli.page import Grid, Page, facts
from incident_rollback.crd.v1alpha1 import (
    GROUP,
    Candidate,
    IncidentRollback,
    ManagedBy,
    RevisionStatus,
)
from incident_rollback.domain.conditions import get
from incident_rollback.domain.diagnosis import how
from incident_rollback.domain.history import History
from incident_rollback.domain.moves import Refuse
from incident_rollback.domain.plan import origin_words
from incident_rollback.domain.revision import choose_revision
from incident_rollback.domain.trace import trace_of
from incident_rollback.domain.words import span
from incident_rollback.domain.workload import Revision, Workload

NONE = "-"


def rollbacks_page(rollbacks: Sequence[IncidentRollback], now: datetime) -> Page:
    """Return a table of rollbacks, the oldest first."""
    if not rollbacks:
        return ["There are no IncidentRollbacks here."]
    head = (
        "NAMESPACE",
        "NAME",
        "WORKLOAD",
        "PHASE",
        "REASON",
        "FROM",
        "TO",
        "INCIDENT",
        "AGE",
    )
    return [Grid(head, tuple(_row(rollback, now) for rollback in rollbacks))]


def describe_page(rollback: IncidentRollback) -> Page:
    """Return the whole life of a rollback."""
    status, spec, metadata = rollback.status, rollback.spec, rollback.metadata
    incident, trace = spec.incident, trace_of(rollback)
    title = [
        ("Name", f"{metadata.namespace}/{metadata.name}"),
        ("Workload", workload_of(rollback)),
        ("Phase", str(status.phase)),
        ("Asked by", spec.requested_by or ""),
        ("Incident", " ".join(filter(None, _incident(rollback))) if incident else ""),
        ("Trace", trace.trace_id if trace else ""),
        ("Dry run", "yes" if spec.dry_run else ""),
        ("Approves", spec.plan_digest or ""),
        ("From", revision_words(status.from_)),
        ("Origin", origin_of(rollback)),
        ("To", revision_words(status.to)),
        ("Plan", status.plan.digest if status.plan else ""),
    ]
    page: list[str | Grid] = [*facts(title)]
    page += section("Life", life_grid(rollback))
    page += section("Warnings", warnings_grid(rollback))
    page += section("Changes", changes_grid(rollback))
    page += section("Not rolled back", leftovers_grid(rollback))
    page += section("Owners", owners_grid(status.target.managed_by if status.target else ()))
    page += section("Candidates", candidates_grid(status.candidates))
    page += section("Told", updates_grid(rollback))
    page += section("Conditions", conditions_grid(rollback))
    return page


def preview_page(
    rollback: IncidentRollback,
    workload: Workload | None,
    owners: Sequence[ManagedBy],
    candidates: Sequence[Candidate],
    *,
    needs_approval: bool,
) -> Page:
    """Return what a rollback would do, or why it would not."""
    status = rollback.status
    ready = get(status.conditions, "Ready")
    told = f"{ready.reason}: {ready.message}" if ready else "nothing can be said yet"
    name, namespace = workload_of(rollback), rollback.metadata.namespace
    page: list[str | Grid] = []
    if status.to is not None:
        page += facts(
            [
                ("Workload", f"{namespace}/{name}"),
                ("From", revision_words(status.from_)),
                ("Origin", origin_of(rollback)),
                ("To", revision_words(status.to)),
                ("Plan", status.plan.digest if status.plan else ""),
            ]
        )
    else:
        page.append(f"{status.phase} {told}")
        page += facts([("Now", how(workload) if workload else "")])
    page += section("Warnings", warnings_grid(rollback))
    page += section("Changes", changes_grid(rollback))
    page += section("Not rolled back", leftovers_grid(rollback))
    page += section("Owners", owners_grid(owners))
    page += section("Candidates", candidates_grid(candidates))
    if status.to is not None:
        page += ["", f"Next: {next_of(rollback, needs_approval=needs_approval)}"]
    return page


def next_of(rollback: IncidentRollback, *, needs_approval: bool) -> str:
    """Return the command that carries a preview out."""
    to = rollback.spec.to
    aim = f" --to-revision {to.revision}" if to else ""
    name, namespace = workload_of(rollback), rollback.metadata.namespace
    command = f"kubectl irb rollback deploy/{name} -n {namespace}{aim}"
    if not needs_approval:
        return command
    return (
        f"{command}, which is refused with the plan until it is approved; "
        f"then: kubectl irb approve NAME -n {namespace}"
    )


def history_page(workload: Workload, now: datetime) -> Page:
    """Return the revisions of a workload, newest first, and what would be chosen."""
    choice = choose_revision(workload, None, now)
    candidates: tuple[Candidate, ...] = ()
    if isinstance(choice, Refuse):
        end = f"None would be chosen: {choice.message}. Next: {choice.fix}"
    else:
        candidates = choice.candidates
        where = f"deploy/{workload.ref.name} -n {workload.ref.namespace}"
        end = f"Whether it would be done now: kubectl irb preview {where}"
    verdicts = {candidate.revision: candidate for candidate in candidates}
    head = ("REVISION", "WAS", "IMAGES", "MADE", "RAN", "PODS", "MARKS", "VERDICT", "WHY")
    rows = tuple(
        _history_row(revision, workload, verdicts.get(revision.number), now)
        for revision in workload.revisions
    )
    return [f"{workload.ref}: {how(workload)}", "", Grid(head, rows), "", end]


def history_data(workload: Workload, now: datetime) -> list[dict[str, object]]:
    """Return the same for programs."""
    page = history_page(workload, now)
    grid = next(block for block in page if isinstance(block, Grid))
    seconds = (History.of(workload).dwell(revision.key) for revision in workload.revisions)
    return [
        {
            "revision": revision.number,
            "earlier": list(revision.numbers[:-1]),
            "replicaSet": revision.replica_set,
            "podTemplateHash": revision.pod_template_hash,
            "images": list(revision.images),
            "createdAt": revision.created_at.isoformat(),
            "dwellSeconds": int(length.total_seconds()) if length is not None else None,
            "availablePods": revision.available,
            "live": workload.live is revision,
            "rolledBackFrom": "rolled back from" in row[6],
            "verdict": "" if row[7] == NONE else row[7],
            "why": "" if row[8] == NONE else row[8],
        }
        for revision, length, row in zip(workload.revisions, seconds, grid.rows, strict=True)
    ]


def workload_of(rollback: IncidentRollback) -> str:
    """Return the name of the workload: as found, else as asked for."""
    spec, target = rollback.spec, rollback.status.target
    if target is not None:
        return target.name
    if spec.target_ref is not None:
        return spec.target_ref.name
    return f"{spec.service.name} in {spec.service.environment}" if spec.service else NONE


def revision_words(revision: RevisionStatus | None) -> str:
    """Return a revision in a line."""
    if revision is None:
        return ""
    images = " + ".join(revision.images)
    evidence = f": {revision.evidence}" if revision.evidence else ""
    return f"revision {revision.revision} ({images}){evidence}"


def section(title: str, grid: Grid) -> list[str | Grid]:
    """Return a table under its title; nothing when it has no rows."""
    return ["", title, grid] if grid.rows else []


def life_grid(rollback: IncidentRollback) -> Grid:
    """Return when what happened, and how long after it was asked for."""
    status, metadata = rollback.status, rollback.metadata
    asked = rollback.spec.requested_at or metadata.creation_timestamp
    events = (
        ("requested", asked),
        ("claimed", status.claimed_at),
        ("patched", status.patched_at),
        ("healthy", status.healthy_since),
        ("finished", status.finished_at),
    )
    return Grid(
        ("WHAT", "WHEN", "AFTER"),
        tuple(
            (what, instant(at), span(at - asked) if asked and at is not asked else NONE)
            for what, at in events
            if at is not None
        ),
    )


def changes_grid(rollback: IncidentRollback) -> Grid:
    """Return what the plan changes."""
    plan = rollback.status.plan
    return Grid(("CHANGE",), tuple((change,) for change in (plan.changes if plan else ())))


def warnings_grid(rollback: IncidentRollback) -> Grid:
    """Return why a rollback may not help, or may do harm."""
    plan = rollback.status.plan
    return Grid(("WHY",), tuple((warning,) for warning in (plan.warnings if plan else ())))


def leftovers_grid(rollback: IncidentRollback) -> Grid:
    """Return what the plan leaves as it is."""
    plan = rollback.status.plan
    return Grid(("WHAT",), tuple((what,) for what in (plan.not_rolled_back if plan else ())))


def origin_of(rollback: IncidentRollback) -> str:
    """Return the age and the author of the revision that the plan would replace."""
    asked = rollback.spec.requested_at or rollback.metadata.creation_timestamp
    return origin_words(rollback.status.plan, asked) if rollback.status.plan else ""


def owners_grid(owners: Iterable[ManagedBy]) -> Grid:
    """Return who keeps the workload as it is written elsewhere."""
    return Grid(
        ("TOOL", "NAME", "BRINGS THE OLD ONE BACK", "EVIDENCE"),
        tuple(
            (
                owner.tool,
                "/".join(filter(None, (owner.namespace, owner.name))) or NONE,
                owner.reverts,
                owner.evidence,
            )
            for owner in owners
        ),
    )


def candidates_grid(candidates: Iterable[Candidate]) -> Grid:
    """Return the revisions that were looked at, and the verdicts."""
    return Grid(
        ("REVISION", "VERDICT", "WHY"),
        tuple((str(one.revision), one.verdict, one.why) for one in candidates),
    )


def updates_grid(rollback: IncidentRollback) -> Grid:
    """Return what the incident was told."""
    return Grid(
        ("WHAT", "KIND", "DECIDED", "DELIVERED", "TEXT"),
        tuple(
            (
                update.key,
                update.kind,
                instant(update.decided_at),
                f"given up: {update.gave_up}" if update.gave_up else instant(update.delivered_at),
                update.text,
            )
            for update in rollback.status.updates
        ),
    )


def conditions_grid(rollback: IncidentRollback) -> Grid:
    """Return the conditions."""
    return Grid(
        ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"),
        tuple(
            (one.type, one.status, one.reason, instant(one.last_transition_time), one.message)
            for one in rollback.status.conditions
        ),
    )


def instant(at: datetime | None) -> str:
    """Return an instant in UTC, with seconds."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else NONE


def full_name(rollback: IncidentRollback) -> str:
    """Return a rollback's name as kubectl prints it with -o name."""
    return f"incidentrollback.{GROUP}/{rollback.metadata.name}"


def as_data(rollback: IncidentRollback) -> dict[str, object]:
    """Return a rollback as on the wire."""
    data: dict[str, object] = rollback.model_dump(mode="json", by_alias=True, exclude_none=True)
    return data


def _row(rollback: IncidentRollback, now: datetime) -> tuple[str, ...]:
    status, metadata = rollback.status, rollback.metadata
    ready = get(status.conditions, "Ready")
    created = metadata.creation_timestamp
    return (
        metadata.namespace,
        metadata.name,
        workload_of(rollback),
        str(status.phase),
        (ready.reason if ready else "") or NONE,
        str(status.from_.revision) if status.from_ else NONE,
        str(status.to.revision) if status.to else NONE,
        next(iter(_incident(rollback)), NONE),
        span(now - created) if created else NONE,
    )


def _incident(rollback: IncidentRollback) -> Iterator[str]:
    incident = rollback.spec.incident
    if incident is not None:
        yield f"#{incident.number}" if incident.number is not None else incident.id
        yield incident.severity or ""
        yield incident.name or ""
        yield incident.url or ""


def _history_row(
    revision: Revision, workload: Workload, verdict: Candidate | None, now: datetime
) -> tuple[str, ...]:
    return (
        str(revision.number),
        ", ".join(map(str, revision.numbers[:-1])) or NONE,
        " + ".join(revision.images),
        f"{span(now - revision.created_at)} ago",
        _ran(revision, workload, now),
        f"{revision.available}/{revision.desired}",
        ", ".join(_marks(revision, workload)) or NONE,
        verdict.verdict if verdict else NONE,
        verdict.why if verdict else NONE,
    )


def _ran(revision: Revision, workload: Workload, now: datetime) -> str:
    """Return how long it was live before it was replaced; of the live one, how long it is."""
    history = History.of(workload)
    since = history.became_current_at(workload) if revision is workload.live else None
    if since is not None:
        return f"{span(now - since)} so far"
    dwell = history.dwell(revision.key)
    return span(dwell) if dwell is not None else NONE


def _marks(revision: Revision, workload: Workload) -> Iterator[str]:
    if revision is workload.live:
        yield "live"
    elif revision.key == workload.key:
        yield "same as live"
    if revision.key in History.of(workload).marked_bad:
        yield "rolled back from"
