"""
Both kinds of the API group, as frozen models: the one source of crds/.

Field docstrings are what `kubectl explain` prints.  Rules that pydantic cannot say to
the API server (CEL) stand beside the class they belong to, in `cel_rules`.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from incident_rollback.crd.part import Part

GROUP: Final = "incidentrollback.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
ROLLBACKS: Final = "incidentrollbacks"
ENVIRONMENTS: Final = "rollbackenvironments"

SERVICE_LABEL: Final = f"{GROUP}/service"
MARKER_ANNOTATION: Final = f"{GROUP}/request"
OPT_OUT_ANNOTATION: Final = f"{GROUP}/rollback"
OPT_OUT_REASON_ANNOTATION: Final = f"{GROUP}/reason"
TRACE_ANNOTATION: Final = f"{GROUP}/trace"
FIELD_MANAGER: Final = "incident-rollback"

MAX_CANDIDATES: Final = 20
MAX_UPDATES: Final = 50
MAX_ID: Final = 253
MAX_TEXT: Final = 1000
MAX_UPDATE_TEXT: Final = 3000
MAX_PLAN_LINES: Final = 50
MAX_TRACE: Final = 64
"""More than any trace has: what is longer is none, and stays none when it is cut."""

Name = Annotated[str, StringConstraints(max_length=253)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Token = Annotated[str, StringConstraints(max_length=128)]
Images = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=500)], ...], Field(max_length=20)
]
Seconds = Annotated[int, Field(ge=0, le=86_400)]
Cap = Annotated[int, Field(ge=1, le=1000)]
Revision = Annotated[int, Field(ge=1, le=2**53)]
SeenRevision = Annotated[int, Field(ge=0, le=2**53)]
"""A revision number as found; 0 when the annotation is missing or garbage."""
Generation = Annotated[int, Field(ge=-1, le=2**53)]
CelRules = tuple[tuple[str, str], ...]
"""Pairs of a CEL expression and the message shown when it is false."""


class Phase(StrEnum):
    """Where one rollback stands, for people."""

    PENDING = "Pending"
    ROLLING_BACK = "RollingBack"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    REFUSED = "Refused"
    PREVIEWED = "Previewed"


FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.REFUSED, Phase.PREVIEWED})


class Condition(Part, frozen=True):
    """One aspect of the state, for software: Ready, Reconciling, Stalled, Reported or Held."""

    type: Annotated[str, StringConstraints(max_length=64)]
    """What it speaks about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: Annotated[str, StringConstraints(max_length=64)] = ""
    """A stable CamelCase word."""
    message: Text = ""
    """The same for people, with the fix or the next command."""
    last_transition_time: AwareDatetime | None = None
    """When `status` last changed."""
    observed_generation: Generation | None = None
    """The generation of the object that this speaks about."""


class ServiceRef(Part, frozen=True):
    """FireHydrant's names, as sent; a RollbackEnvironment turns the pair into a workload."""

    name: Name
    """The impacted service.  Empty is refused with ServiceMissing."""
    environment: Name
    """The impacted environment.  Empty is refused with EnvironmentNotMapped."""


class TargetRef(Part, frozen=True):
    """A workload of the namespace that the resource is in."""

    api_version: Literal["apps/v1"] = "apps/v1"
    """The API version of the workload."""
    kind: Literal["Deployment"] = "Deployment"
    """The kind of the workload."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """The name of the workload."""


class Aim(Part, frozen=True):
    """Where to go back to; exactly one of the two."""

    cel_rules: ClassVar[CelRules] = (
        (
            "has(self.revision) != has(self.podTemplateHash)",
            "give exactly one of revision and podTemplateHash",
        ),
    )

    revision: Revision | None = None
    """The number, as in `kubectl rollout history`.  It moves when a revision is restored."""
    pod_template_hash: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """The label pod-template-hash of the wanted ReplicaSet.  It stays."""


class IncidentRef(Part, frozen=True):
    """The incident that hears of it.  Everything but the id is shown, never trusted."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """FireHydrant's id of the incident."""
    number: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """The number people say."""
    name: Annotated[str, StringConstraints(max_length=500)] | None = None
    """The incident's name."""
    url: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """The incident's page."""
    severity: Annotated[str, StringConstraints(max_length=253)] | None = None
    """The severity; GAMEDAY makes the request a dry run."""
    started_at: AwareDatetime | None = None
    """When the incident began; absent: `requestedAt`."""


class IncidentRollbackSpec(Part, frozen=True):
    """What was asked.  Written once; nothing edits it."""

    cel_rules: ClassVar[CelRules] = (
        ("self == oldSelf", "the spec is immutable: make a new IncidentRollback instead"),
        ("has(self.service) != has(self.targetRef)", "give exactly one of service and targetRef"),
    )

    service: ServiceRef | None = None
    """The service and environment of the incident.  Exactly one of `service` and `targetRef`."""
    target_ref: TargetRef | None = None
    """The workload itself, in this namespace.  Exactly one of `service` and `targetRef`."""
    to: Aim | None = None
    """Where to go back to; absent: the last healthy revision."""
    dry_run: bool = False
    """Plan only: say what a rollback would do, and change nothing."""
    pairs: Annotated[int, Field(ge=1, le=10)] = 1
    """How many pairs of service and environment the request named; written by the bridge."""
    plan_digest: (
        Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)] | None
    ) = None
    """Act only if the plan is still this one: the approval of a plan that was shown."""
    requested_at: AwareDatetime | None = None
    """When it was asked for; absent: at creation.  Older than `maxAgeSeconds` is refused."""
    requested_by: Annotated[str, StringConstraints(max_length=253)] | None = None
    """Who or what asked; shown, never trusted."""
    incident: IncidentRef | None = None
    """The FireHydrant incident to tell; absent: nothing goes to FireHydrant."""


class ManagedBy(Part, frozen=True):
    """Somebody who keeps the workload as it is written elsewhere."""

    tool: Token
    """Which tool, e.g. FluxKustomization."""
    name: Name = ""
    """The name of the object that it keeps the workload by."""
    namespace: Name = ""
    """Its namespace."""
    evidence: Text = ""
    """What on the workload says so."""
    reverts: Literal["certain", "possible", "never"]
    """Whether it brings the old template back by itself."""


class TargetStatus(Part, frozen=True):
    """The workload, frozen by the claim."""

    environment: Name = ""
    """The environment as a DNS label; empty for a targetRef."""
    cluster: Name = "inCluster"
    """The cluster the workload is in."""
    namespace: Name
    """The namespace of the workload."""
    kind: Name = "Deployment"
    """The kind of the workload."""
    name: Name
    """The name of the workload."""
    uid: Token
    """The uid of the workload; another uid is another workload."""
    managed_by: Annotated[tuple[ManagedBy, ...], Field(max_length=10)] = ()
    """Who keeps it as it is written elsewhere, who is certain to revert first."""


class RevisionStatus(Part, frozen=True):
    """One revision, as it was when the claim was made."""

    revision: SeenRevision
    """Its number then; 0 when it had none."""
    pod_template_hash: Token
    """The hash of its ReplicaSet, which stays."""
    images: Images = ()
    """Images of its containers, in order."""
    evidence: Text = ""
    """What was seen of it: how its pods fail, or why it is believed to work."""
    failing: bool = False
    """Whether it was seen failing by its own pods."""


class Candidate(Part, frozen=True):
    """One revision that was looked at, and the verdict."""

    revision: SeenRevision
    """Its number; 0 when it had none."""
    verdict: Literal["Chosen", "PassedOver"]
    """Whether it was chosen."""
    why: Text
    """The reason, for people."""


class PlanStatus(Part, frozen=True):
    """What the rollback does, or would do."""

    digest: Token
    """Covers all that decides; put it into `spec.planDigest` to approve exactly this plan."""
    changes: Annotated[tuple[Text, ...], Field(max_length=MAX_PLAN_LINES)] = ()
    """The changes in readable lines.  Values of env and Secrets never appear."""
    warnings: Annotated[tuple[Text, ...], Field(max_length=20)] = ()
    """Why a rollback may not help, or may do harm; an approval covers them."""
    not_rolled_back: Annotated[tuple[Text, ...], Field(max_length=MAX_PLAN_LINES)] = ()
    """What stays as it is, among it the ConfigMaps and Secrets that the old template uses."""
    deployed_at: AwareDatetime | None = None
    """When the revision to replace became current, restarts not counted; absent: unknown."""
    written_by: Text = ""
    """The field manager that wrote its template last; empty: unknown."""


class Update(Part, frozen=True):
    """Something told to the incident, or about to be."""

    key: Token
    """What it tells: waiting, start, progress, end, change, held or deleted."""
    kind: Literal["Note", "Message", "ChangeEvent"]
    """What it is in FireHydrant."""
    text: Annotated[str, StringConstraints(max_length=MAX_UPDATE_TEXT)]
    """The words."""
    decided_at: AwareDatetime
    """When it was decided, in the same write as what it tells."""
    decided_by: Token = ""
    """The process that decided it; another process looks before it posts."""
    delivered_at: AwareDatetime | None = None
    """When FireHydrant took it; absent: not yet, or given up."""
    external_id: Annotated[str, StringConstraints(max_length=MAX_ID)] = Field(
        default="", alias="externalID"
    )
    """FireHydrant's id of it."""
    gave_up: Text = ""
    """Why it will never be delivered; empty while it may be."""


class IncidentRollbackStatus(Part, frozen=True):
    """What happened.  Written by the controller alone."""

    observed_generation: Generation = -1
    """The generation that was looked at; -1 until the controller has seen the resource."""
    phase: Phase = Phase.PENDING
    """Pending, RollingBack, Succeeded, Failed, Refused or Previewed; a final one never changes."""
    settled: bool = False
    """Finished, held, and nothing left to tell."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=10)] = ()
    """Ready, and while they are true Reconciling and Stalled; Reported and Held."""
    target: TargetStatus | None = None
    """The workload, frozen by the claim."""
    from_: RevisionStatus | None = Field(default=None, alias="from")
    """The revision that was live at the claim."""
    to: RevisionStatus | None = None
    """The revision that the claim chose."""
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_CANDIDATES)] = ()
    """The revisions that were looked at, newest first, each with a verdict."""
    plan: PlanStatus | None = None
    """What the rollback does, or would do."""
    claimed_at: AwareDatetime | None = None
    """When from and to were frozen."""
    patched_at: AwareDatetime | None = None
    """When the workload's template was restored."""
    healthy_since: AwareDatetime | None = None
    """Since when all pods of the target have been available without a pause; absent: not yet."""
    finished_at: AwareDatetime | None = None
    """When the final phase was reached."""
    updates: Annotated[tuple[Update, ...], Field(max_length=MAX_UPDATES)] = ()
    """What the incident was told, and what is still to be told, in order."""


def _begin(text: str | None) -> str | None:
    """Return as much as is needed to see what it is; an annotation may have 256 KiB."""
    return text and text[:MAX_TRACE]


class Annotations(Part, frozen=True):
    """The annotations of an IncidentRollback that we read; the others are not kept."""

    trace: Annotated[str | None, AfterValidator(_begin)] = Field(
        default=None, alias=TRACE_ANNOTATION
    )
    """Its beginning as found: whoever may write the resource may write anything here."""


class Metadata(Part, frozen=True):
    """The part of the metadata that we read."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    annotations: Annotations | None = None


class IncidentRollback(Part, frozen=True):
    """
    One request to roll a workload back because of an incident, and its record.

    Made by the bridge, by kubectl or from Git.  The controller finds the workload behind the
    service and environment, chooses the last healthy revision, restores its pod template,
    watches it become healthy, and writes here and on the incident what happened.
    """

    api_version: str = API_VERSION
    kind: str = "IncidentRollback"
    metadata: Metadata
    spec: IncidentRollbackSpec
    """What was asked.  Immutable."""
    status: IncidentRollbackStatus = IncidentRollbackStatus()
    """What happened."""


class InCluster(Part, frozen=True):
    """The operator's own cluster."""


class ClusterRef(Part, frozen=True):
    """Which cluster the environment is in; exactly one member."""

    cel_rules: ClassVar[CelRules] = (("has(self.inCluster)", "give exactly one member: inCluster"),)

    in_cluster: InCluster | None = None
    """The operator's own cluster."""


class WorkloadMapping(Part, frozen=True):
    """A workload by its names."""

    namespace: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """The namespace; absent: that of the environment."""
    kind: Literal["Deployment"] = "Deployment"
    """The kind."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """The name."""


class ServiceMapping(Part, frozen=True):
    """A FireHydrant service and the workload behind it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    """FireHydrant's name of the service; compared as a DNS label."""
    workload: WorkloadMapping
    """The workload behind it."""


class Policy(Part, frozen=True):
    """How careful to be.  Seconds may be 0, so that tests can be quick."""

    approval: Literal["NotRequired", "Required"] = "NotRequired"
    """Required: refuse with ApprovalRequired and the plan, and act only on that plan's digest."""
    max_age_seconds: Seconds = 900
    """A request older than this is refused; what can be mended is waited for until then."""
    stable_seconds: Seconds = 30
    """How long all pods must stay healthy before it counts as success."""
    hold_seconds: Seconds = 600
    """How long the workload is still watched after the end."""
    cooldown_seconds: Seconds = 600
    """How long after one rollback of a workload the next one waits."""
    max_concurrent: Cap | None = None
    """How many rollbacks may be under way in the environment at once; absent: no cap."""
    max_per_hour: Cap | None = None
    """How many rollbacks may change something in the environment within an hour; absent: no cap."""
    max_release_age_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 604_800
    """A live revision that is older when the incident begins is rolled back only if approved."""
    max_revisions_back: Annotated[int, Field(ge=1, le=100)] = 10
    """How many releases back it may go by itself where no pod serves: data and schemas move on."""
    git_ops: Literal["Refuse", "Proceed"] = "Refuse"
    """Refuse: nothing is done where an owner is certain to bring the bad revision back."""


class RollbackEnvironmentSpec(Part, frozen=True):
    """Which FireHydrant environments this is, and where their workloads are."""

    environments: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=253)], ...],
        Field(min_length=1, max_length=50),
    ]
    """FireHydrant's names, compared as DNS labels; "*" is whatever no other object names."""
    namespace: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = None
    """Where the workloads are; absent: the environment's name as a DNS label."""
    cluster: ClusterRef = ClusterRef(in_cluster=InCluster())
    """Which cluster; exactly one member."""
    services: Annotated[tuple[ServiceMapping, ...], Field(max_length=500)] = ()
    """Services whose workload has another name than theirs."""
    suspend: bool = False
    """The red switch: nothing is patched while it is on.  Looked at before every patch."""
    incidents_from: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=63)], ...], Field(max_length=50)
    ] = ()
    """Namespaces, beside the home namespace, whose resources may speak to an incident."""
    policy: Policy = Policy()
    """How careful to be."""


class RollbackEnvironmentStatus(Part, frozen=True):
    """Whether it would work tonight."""

    observed_generation: Generation = -1
    """The generation that was looked at."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=10)] = ()
    """Ready says whether a rollback in this environment would work tonight, and if not, why."""


class RollbackEnvironment(Part, frozen=True):
    """
    The mapping from FireHydrant's names to workloads, and the policy: data that admins own.

    Lives in the operator's home namespace.  A service becomes a workload by an entry in
    `services`; else by the label incidentrollback.dev/service; else by its name.
    """

    api_version: str = API_VERSION
    kind: str = "RollbackEnvironment"
    metadata: Metadata
    spec: RollbackEnvironmentSpec
    """The mapping and the policy."""
    status: RollbackEnvironmentStatus = RollbackEnvironmentStatus()
    """Whether it would work tonight."""
