"""
One turn of one rollback: observe, decide, record, act.

Intent before effect: a claim is stored first, and only then the template is restored.  Safe to
repeat: after a crash the workload itself tells what was done.
"""

import asyncio
import logging
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final

from incident_rollback.clients.translate import marker_text
from incident_rollback.controller.outbox import ChangeFacts, Outbox, with_results
from incident_rollback.crd.v1alpha1 import (
    FINAL_PHASES,
    Condition,
    IncidentRollback,
    IncidentRollbackStatus,
    Phase,
)
from incident_rollback.domain import preflight, timeline
from incident_rollback.domain.caps import over_the_cap
from incident_rollback.domain.conditions import get
from incident_rollback.domain.decision import decide, in_time
from incident_rollback.domain.environment import Place, find_place, find_workload, hears_incidents
from incident_rollback.domain.incident import IncidentFacts
from incident_rollback.domain.look import Look, what_to_look_at
from incident_rollback.domain.moves import (
    Claim,
    Fail,
    Hold,
    Move,
    Refuse,
    Restore,
    Succeed,
    Wait,
    Watch,
)
from incident_rollback.domain.names import intent_of
from incident_rollback.domain.observation import Observation, is_written
from incident_rollback.domain.ownership import Tool, by_certainty, judge_application
from incident_rollback.domain.record import Teller, record, with_reported
from incident_rollback.domain.surroundings import Trial
from incident_rollback.domain.trace import trace_of
from incident_rollback.domain.words import join, quote
from incident_rollback.domain.workload import Revision, Workload, WorkloadRef
from incident_rollback.errors import (
    ConflictError,
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    RejectedError,
    RollbackError,
    StaleReadError,
    TransientError,
)
from incident_rollback.ports import Clock, Cluster, ClusterEvent, Store, TemplatePatch, Timeline
from incident_rollback.telemetry.traces import span

ASK_SECONDS: Final = 1.0
"""How long FireHydrant may take to say whether the incident is a drill, or closed."""
FACTS_KEEP: Final = timedelta(seconds=60)
QUICK_TRIES: Final = 5
"""How often a failed guard is followed by another look at once."""
ACK_SECONDS: Final = 2.0
MESSAGE_SECONDS: Final = 15.0
ARGO_CD_NAMESPACE: Final = "argocd"
"""Where an Application is looked for that does not say its namespace."""
MAX_ANSWER: Final = 500
"""How much of an API server's answer is repeated, in characters."""
_ATTEMPT: Final = re.compile(r"[0-9a-f]{16}-[2-5]$")

_SPOKEN: Final = ("Ready", "Reconciling", "Reported")

_log = logging.getLogger(__name__)


@dataclass
class Memory:
    """What one process remembers of one rollback.  Losing it costs reads, nothing else."""

    facts: IncidentFacts | None = None
    asked_at: datetime | None = None
    """When FireHydrant was asked last, whether it answered or not."""
    place: Place | None = None
    hears: bool | None = None
    """Whether the incident may be spoken to; None: the mapping was not read yet."""
    stale_tries: int = 0
    denied: Wait | None = None
    """Why the last try to patch was not allowed."""
    patched_at: datetime | None = None
    """As answered or seen, and not yet stored."""
    healthy_since: datetime | None = None
    """As seen, and not yet stored: it waits to share a write."""
    is_behind: bool = False
    """What is stored is not all that was seen: the next turn comes soon."""
    written_at: float = 0.0
    """Monotonic time of the last status write, in seconds."""
    posted: set[str] = field(default_factory=set[str])
    """Keys of the Kubernetes Events that are posted."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of a turn."""

    rollback: IncidentRollback | None
    """As stored now; None: the resource is gone."""
    move: Move
    after: float
    """Seconds until the next one; a wake may come earlier."""
    writer: str = ""
    """Who wrote the workload's template last, as seen; "": nobody knows."""


@dataclass
class Reconciler:
    """Takes turns.  Everything it needs from outside is given to it."""

    store: Store
    cluster: Cluster
    clock: Clock
    timeline: Timeline | None
    outbox: Outbox | None
    home: str
    process: str
    is_hurried: bool = True
    """Whether it looks at a glance first; a rehearsal has time."""

    async def turn(self, rollback: IncidentRollback, memory: Memory, wake: "Wake") -> Turn:
        """
        Take one turn and say when the next one is due.

        Raises TransientError when the API server did not answer; nothing is lost by that.
        """
        known = _as_remembered(self._with_results(rollback), memory)
        is_first = rollback.status.phase is Phase.PENDING and memory.place is None
        at_a_glance = self.is_hurried and (is_first or known.status.patched_at is not None)
        seen, move = await self._decide(await self._observe(known, memory, at_a_glance=at_a_glance))
        if at_a_glance and not await self._holds_good(seen, move, memory):
            seen, move = await self._decide(await self._observe(known, memory))
        if isinstance(move, Claim) and self._is_forgetful(seen, memory):
            seen = replace(seen, facts=await self._ask(rollback, memory))
            move = decide(seen)
        if seen.workload is not None and _speaks_of_owners(seen, move):
            seen = replace(seen, workload=await self._with_judged_owners(seen.workload))
            move = decide(seen)
        if isinstance(move, Watch):
            memory.patched_at, memory.healthy_since = move.patched_at, move.healthy_since
        stored = await self._store(rollback, seen, move, memory)
        if stored is None:
            return Turn(None, move, 0)
        after = _pause(move)
        if isinstance(move, Restore) and not await self._is_current(stored):
            return Turn(None, move, 0)
        if isinstance(move, (Claim, Restore)):
            revision = move.aim.revision if isinstance(move, Claim) else move.revision
            stored, after = await self._restore(replace(seen, rollback=stored), revision, memory)
        if stored is not None:
            remembered = _as_remembered(stored, memory)
            self._tell(remembered, seen.workload, memory, wake)
            await self._post_events(remembered, seen.workload, memory)
        after = min(after, ACK_SECONDS) if memory.is_behind else after
        return Turn(stored, move, after, seen.workload.template_writer if seen.workload else "")

    async def farewell(self, rollback: IncidentRollback) -> None:
        """A resource was deleted after its patch: one last note, and an Event on the workload."""
        try:
            await self._say_farewell(rollback)
        finally:
            if self.outbox is not None:  # What is left is told all the same.
                self.outbox.forget(rollback.metadata.uid)

    async def _say_farewell(self, rollback: IncidentRollback) -> None:
        status = rollback.status
        if status.phase is not Phase.ROLLING_BACK or status.target is None:
            return
        workload = await self._read_target(rollback)
        if not isinstance(workload, Workload) or not is_written(rollback, workload):
            return
        text = timeline.deleted_text(rollback)
        incident = rollback.spec.incident
        if self.outbox is not None and incident is not None and await self._hears(rollback):
            now = self.clock.now()
            told = self._with_results(rollback).status.updates
            updates = timeline.add(told, "deleted", text, now=now, process=self.process)
            self.outbox.submit(rollback.metadata.uid, incident.id, updates, wake=lambda: None)
        await self._post(_on_workload(rollback, "deleted", "Warning", "RollbackUnwatched", text))

    # --- observe ---

    async def _observe(
        self, rollback: IncidentRollback, memory: Memory, *, at_a_glance: bool = False
    ) -> Observation:
        """
        Read what a decision rests on.

        At a glance the mapping may lag, and the workload be torn: whether it holds good is to be
        seen before what comes of it is stored.  Who may speak to an incident is asked once only,
        and must not lag where it is asked at all.
        """
        now = self.clock.now()
        phase = rollback.status.phase
        if phase in FINAL_PHASES and not _is_held(rollback.status):
            if memory.hears is None and rollback.spec.incident is not None:
                memory.hears = await self._hears(rollback)
            return Observation(rollback, now, place=memory.place)
        if rollback.status.patched_at is not None:
            return await self._observe_patched(rollback, memory, at_a_glance=at_a_glance)
        try:
            environments, others, facts = await asyncio.gather(
                self.store.list_environments(
                    may_lag=at_a_glance and rollback.metadata.namespace == self.home
                ),
                self._others(rollback),
                self._facts(rollback, memory),
            )
        except ForbiddenError as error:
            return Observation(rollback, now, hindrance=_not_permitted(error))
        memory.hears = hears_incidents(rollback.metadata.namespace, environments, self.home)
        place = find_place(rollback, environments, self.home)
        seen = Observation(rollback, now, denied=memory.denied, others=others, facts=facts)
        if isinstance(place, Place):
            memory.place = place
            others = await self._with_this_hour(rollback, others, place)
            seen = replace(seen, place=place, others=others)
        else:
            seen = replace(seen, hindrance=place)
        return await self._with_workload(seen, at_a_glance=at_a_glance)

    async def _observe_patched(
        self, rollback: IncidentRollback, memory: Memory, *, at_a_glance: bool
    ) -> Observation:
        """After the patch only the workload matters; the policy is that of the claim's turn."""
        if memory.place is None:
            memory.place = await self._place(rollback, memory)
        seen = Observation(rollback, self.clock.now(), place=memory.place)
        workload = await self._read_target(rollback, at_a_glance=at_a_glance)
        if isinstance(workload, Wait):
            return replace(seen, hindrance=workload)
        return replace(seen, workload=workload, now=self.clock.now())

    async def _holds_good(self, seen: Observation, move: Move, memory: Memory) -> bool:
        """
        Say whether what was seen at a glance is what there is: it may be acted on, and told.

        A claim rests on one mapping, which is read from etcd, and on a patch that was tried with
        the guards of the real one; a no, on all mappings that there are.  Nothing rests on what
        is looked at again in a moment.
        """
        if isinstance(move, Watch) or (isinstance(move, Hold) and not move.is_over):
            return True
        is_new = seen.rollback.status.phase is Phase.PENDING
        try:
            if isinstance(move, Claim):
                if seen.place != await self._mapped_now(seen):
                    return False
                if seen.around.is_accepted(move.aim.revision.pod_template_hash):
                    return True
            elif is_new and seen.place != await self._place(seen.rollback, memory):
                return False
            return seen.workload is None or await self.cluster.is_still(seen.workload)
        except ForbiddenError:
            return False  # A closer look says what is missing.

    async def _hears(self, rollback: IncidentRollback) -> bool | None:
        """Say whether the incident may be spoken to; None: the mapping cannot be read."""
        try:
            environments = await self.store.list_environments()
        except ForbiddenError:
            return None
        return hears_incidents(rollback.metadata.namespace, environments, self.home)

    async def _place(self, rollback: IncidentRollback, memory: Memory) -> Place | None:
        """Return where it points; None: it points nowhere now, or the mapping cannot be read."""
        try:
            environments = await self.store.list_environments()
        except ForbiddenError:
            return None
        memory.hears = hears_incidents(rollback.metadata.namespace, environments, self.home)
        place = find_place(rollback, environments, self.home)
        return place if isinstance(place, Place) else None

    async def _with_workload(self, seen: Observation, *, at_a_glance: bool = False) -> Observation:
        """Read the claimed workload or, before the claim, the one that the place leads to."""
        found: Workload | Wait | Refuse | None
        if seen.rollback.status.phase is not Phase.PENDING:
            found = await self._read_target(seen.rollback)
        elif seen.place is not None:
            found = await self._find(seen.place, at_a_glance=at_a_glance)
        else:
            return seen
        if isinstance(found, (Wait, Refuse)):
            return replace(seen, hindrance=found)
        workload = await self._with_judged_owners(found) if found is not None else None
        return replace(seen, workload=workload, now=self.clock.now())

    async def _with_judged_owners(self, workload: Workload) -> Workload:
        """Look at the Argo CD Application, for only it says whether a change heals itself."""
        owner = next((o for o in workload.managed_by if o.tool is Tool.ARGO_CD and o.name), None)
        if owner is None:
            return workload
        namespace = owner.namespace or ARGO_CD_NAMESPACE
        application = await self.cluster.read_application(namespace, owner.name)
        judged = judge_application(owner, application, workload.ref)
        others = (o for o in workload.managed_by if o is not owner)
        return replace(workload, managed_by=by_certainty((judged, *others)))

    async def _find(self, place: Place, *, at_a_glance: bool) -> Workload | Wait | Refuse | None:
        try:
            return await self._look_up(place, at_a_glance=at_a_glance)
        except ForbiddenError as error:
            return _not_permitted(error)
        except InvalidRequestError as error:
            text = quote(str(error), MAX_ANSWER)
            return Refuse("WorkloadNotFound", text, "correct the mapping of the service")

    async def _look_up(self, place: Place, *, at_a_glance: bool) -> Workload | Refuse | None:
        """
        Read the workload that is labelled for a place or, without one, has its name.

        At a glance the one of that name is read meanwhile: few workloads are labelled.
        """
        read = partial(self.cluster.read_workload, at_a_glance=at_a_glance)
        guess = WorkloadRef(place.namespace, place.name)
        if place.is_exact:
            return await read(guess)
        guessed = asyncio.ensure_future(read(guess)) if at_a_glance else None
        try:
            labelled = await self.cluster.labelled_workloads(place.namespace, place.name)
            ref = find_workload(place, labelled)
            if guessed is not None and ref == guess:
                return await guessed
        finally:
            if guessed is not None:
                guessed.cancel()
                await asyncio.gather(guessed, return_exceptions=True)  # Its errors are no news.
        return await read(ref) if isinstance(ref, WorkloadRef) else ref

    async def _read_target(
        self, rollback: IncidentRollback, *, at_a_glance: bool = False
    ) -> Workload | Wait | None:
        target = rollback.status.target
        if target is None:
            return None
        ref = WorkloadRef(target.namespace, target.name)
        try:
            return await self.cluster.read_workload(ref, at_a_glance=at_a_glance)
        except ForbiddenError as error:
            return _not_permitted(error)

    async def _others(self, rollback: IncidentRollback) -> Sequence[IncidentRollback]:
        """Return those that have claimed and not ended, and those of the same incident."""
        since = rollback.metadata.resource_version
        queries = [self._claimed(rollback)]
        if rollback.spec.incident is not None:
            value = _field_value(rollback.spec.incident.id)
            queries.append(
                self.store.list_rollbacks(
                    namespace=rollback.metadata.namespace,
                    fields=f"spec.incident.id={value}",
                    since=since,
                )
            )
        found = await asyncio.gather(*queries)
        return [r for r in _distinct(*found) if r.metadata.uid != rollback.metadata.uid]

    async def _claimed(self, rollback: IncidentRollback) -> Sequence[IncidentRollback]:
        """
        Return those that have claimed and not ended, all that did before this one was written.

        Of two claims the later one sees the earlier one so, and that is what is needed.
        """
        since = rollback.metadata.resource_version
        return await self.store.list_rollbacks(fields="status.phase=RollingBack", since=since)

    async def _with_this_hour(
        self, rollback: IncidentRollback, others: Sequence[IncidentRollback], place: Place
    ) -> Sequence[IncidentRollback]:
        """Add what counts for the hour; nobody pays for that list where no hour is bounded."""
        if place.policy.max_per_hour is None:
            return others
        since = rollback.metadata.resource_version
        queries = (self.store.list_rollbacks(fields=f, since=since) for f in _fields_of(place))
        return _distinct(others, *await asyncio.gather(*queries))

    async def _facts(self, rollback: IncidentRollback, memory: Memory) -> IncidentFacts | None:
        if memory.asked_at is not None or not self._must_ask(rollback):
            return memory.facts
        return await self._ask(rollback, memory)

    def _must_ask(self, rollback: IncidentRollback) -> bool:
        """Ask where the request cannot know: no severity, a later attempt, an old request."""
        incident = rollback.spec.incident
        if incident is None or self.timeline is None:
            return False
        created = rollback.metadata.creation_timestamp
        asked_at = rollback.spec.requested_at or created
        is_old = asked_at is not None and self.clock.now() - asked_at > FACTS_KEEP
        return is_old or incident.severity is None or bool(_ATTEMPT.search(rollback.metadata.name))

    def _is_forgetful(self, seen: Observation, memory: Memory) -> bool:
        if not self._must_ask(seen.rollback):
            return False
        return memory.asked_at is None or seen.now - memory.asked_at > FACTS_KEEP

    async def _ask(self, rollback: IncidentRollback, memory: Memory) -> IncidentFacts | None:
        """Ask FireHydrant, for a second at most; what it does not say stands in nobody's way."""
        incident = rollback.spec.incident
        if self.timeline is None or incident is None:
            return None
        memory.asked_at = self.clock.now()
        try:
            async with asyncio.timeout(ASK_SECONDS):
                memory.facts = await self.timeline.read_incident(incident.id)
        except (RollbackError, TimeoutError) as error:
            _log.info("the incident could not be looked up; going on: %r", error)
        return memory.facts

    # --- decide ---

    async def _decide(self, seen: Observation) -> tuple[Observation, Move]:
        """Decide, look at what the move rests on, and decide again until nothing is left open."""
        move = decide(seen)
        while (look := what_to_look_at(seen, move)) is not None:
            before, seen = seen, await self._look(seen, look)
            if seen.around == before.around:
                raise IllegalTransitionError(f"nothing came of a look: {look}")
            move = decide(seen)
        return seen, move

    async def _look(self, seen: Observation, look: Look) -> Observation:
        """Look at all of it at once; what cannot be seen is known to be unknown."""
        assert seen.workload is not None  # noqa: S101  # a move that rests on more rests on one
        around, denied, namespace = seen.around, seen.denied, seen.workload.ref.namespace
        trial, referents, warnings, nodes = await asyncio.gather(
            self._try(seen, seen.workload, look.trial_of),
            self.cluster.read_referents(namespace, look.references),
            self.cluster.read_warnings(namespace, look.warnings),
            self.cluster.read_nodes(look.nodes),
        )
        if isinstance(trial, Wait):
            denied, trial = trial, Trial("Denied", trial.message)
        trials = {look.trial_of.pod_template_hash: trial} if look.trial_of and trial else {}
        known = replace(
            around,
            references={**around.references, **referents},
            trials={**around.trials, **trials},
            warnings={**around.warnings, **warnings},
            nodes={**around.nodes, **nodes},
        )
        return replace(seen, around=known, denied=denied)

    async def _try(
        self, seen: Observation, workload: Workload, revision: Revision | None
    ) -> Trial | Wait | None:
        """Try the very patch that a claim would be followed by."""
        if revision is None:
            return None
        try:
            return await self.cluster.try_template(self._patch(seen, workload, revision))
        except ForbiddenError as error:
            return _not_permitted(error)

    # --- record ---

    async def _store(
        self, before: IncidentRollback, seen: Observation, move: Move, memory: Memory
    ) -> IncidentRollback | None:
        """Write the status if it is news to what is stored; None: the resource is gone."""
        drafted = record(seen, move, Teller(self.process, self._silence(seen.rollback, memory)))
        drafted = with_reported(drafted, self._trouble(drafted), seen.now)
        age = monotonic() - memory.written_at
        if not is_worth_writing(before.status, drafted.status, age):
            memory.is_behind = drafted.status != before.status
            return before
        memory.is_behind = False
        stored = await self.store.save(drafted)
        memory.written_at = monotonic()
        return stored

    def _silence(self, rollback: IncidentRollback, memory: Memory) -> str:
        if rollback.spec.incident is None:
            return "NoIncident"
        if not self._may_tell(rollback, memory):
            return "NotListed"
        return "NoKey" if self.outbox is None else ""

    def _may_tell(self, rollback: IncidentRollback, memory: Memory) -> bool:
        """Until the mapping was read, only the home namespace may speak to an incident."""
        if memory.hears is None:
            return rollback.metadata.namespace == self.home
        return memory.hears

    def _with_results(self, rollback: IncidentRollback) -> IncidentRollback:
        if self.outbox is None:
            return rollback
        status = rollback.status
        updates = with_results(status.updates, self.outbox.results(rollback.metadata.uid))
        if updates == status.updates:
            return rollback
        return rollback.model_copy(
            update={"status": status.model_copy(update={"updates": updates})}
        )

    def _trouble(self, rollback: IncidentRollback) -> tuple[str, str] | None:
        if self.outbox is None:
            return None
        trouble = self.outbox.results(rollback.metadata.uid).trouble
        return (trouble.reason, trouble.message) if trouble else None

    # --- act ---

    async def _restore(
        self, seen: Observation, revision: Revision, memory: Memory
    ) -> tuple[IncidentRollback | None, float]:
        """Patch the template, guarded by what was just observed; say when to look again."""
        assert seen.workload is not None  # noqa: S101  # a claim and a restore rest on one
        try:
            if await self._is_held_back(seen, seen.workload):
                return seen.rollback, 0.0  # The next turn says why.
            memory.denied = None
            with span("patch"):
                patch = self._patch(seen, seen.workload, revision)
                memory.patched_at = await self.cluster.restore_template(patch)
        except StaleReadError:
            memory.stale_tries += 1
            is_quick = memory.stale_tries <= QUICK_TRIES
            return seen.rollback, random.uniform(0.02, 0.2) if is_quick else 2.0  # noqa: S311
        except RejectedError as error:
            fix = "ask whoever owns the admission policy, or restore another revision"
            refusal = Refuse(error.reason, quote(str(error), MAX_ANSWER), fix)
            return await self._store(seen.rollback, seen, refusal, memory), 0.0
        except ForbiddenError as error:
            memory.denied = _not_permitted(error)
            wait = in_time(seen, memory.denied)
            return await self._store(seen.rollback, seen, wait, memory), _pause(wait)
        return seen.rollback, 0.25

    async def _is_current(self, stored: IncidentRollback) -> bool:
        """
        Say whether a claim of an earlier turn is still there; nothing was written in this one.

        A resource that was deleted, or ended by another process, must not be patched for.
        """
        metadata = stored.metadata
        found = await self.store.get(metadata.namespace, metadata.name)
        if found is None or found.metadata.uid != metadata.uid:
            return False
        if found.metadata.deletion_timestamp is not None:
            return False
        if found.metadata.resource_version != metadata.resource_version:
            raise ConflictError(f"{metadata.name} was written since it was read")
        return True

    async def _is_held_back(self, seen: Observation, workload: Workload) -> bool:
        """Right before the patch, look once more at the mapping and at who has claimed."""
        place, claimed = await asyncio.gather(self._mapped_now(seen), self._claimed(seen.rollback))
        if not isinstance(place, Place) or place.suspended_by:
            return True
        if preflight.busy(replace(seen, others=claimed), workload) is not None:
            return True
        others = await self._with_this_hour(seen.rollback, claimed, place)
        return over_the_cap(replace(seen, place=place, others=others)) is not None

    async def _mapped_now(self, seen: Observation) -> Place | Wait | Refuse:
        """Return where its place is mapped to now, by what mapped it or, if nothing did, by all."""
        if seen.place is None or not seen.place.mapped_by:
            environments = await self.store.list_environments()
        else:
            found = await self.store.get_environment(seen.place.mapped_by)
            environments = [found] if found is not None else []
        return find_place(seen.rollback, environments, self.home)

    def _patch(self, seen: Observation, workload: Workload, revision: Revision) -> TemplatePatch:
        metadata = seen.rollback.metadata
        return TemplatePatch(
            ref=workload.ref,
            uid=workload.uid,
            generation=workload.generation,
            revision=workload.number,
            template=revision.template,
            marker=marker_text(metadata.uid, intent_of(seen.rollback), self.clock.now()),
        )

    def _tell(
        self, stored: IncidentRollback, workload: Workload | None, memory: Memory, wake: "Wake"
    ) -> None:
        """Hand what is stored and not yet told to the outbox."""
        incident = stored.spec.incident
        if self.outbox is None or incident is None or not self._may_tell(stored, memory):
            return
        status = stored.status
        if status.settled:
            self.outbox.forget(stored.metadata.uid)
            return
        is_patched = status.phase is not Phase.ROLLING_BACK or is_written(stored, workload)
        updates = [u for u in status.updates if u.key != "start" or is_patched]
        self.outbox.submit(
            stored.metadata.uid, incident.id, updates, wake=wake, change=_change_facts(stored)
        )

    async def _post_events(
        self, stored: IncidentRollback, workload: Workload | None, memory: Memory
    ) -> None:
        """Post the Events that are due and not yet posted by this process; their names repeat."""
        for event in due_events(stored, workload):
            name = f"{event.kind}-{event.key}"
            if name not in memory.posted and await self._post(event):
                memory.posted.add(name)

    async def _post(self, event: ClusterEvent) -> bool:
        """
        Post an Event; say whether another try is of no use.

        Events are best effort, the status is the record: a missing permission is not waited for.
        """
        try:
            await self.cluster.post_event(event)
        except RollbackError as error:
            _log.warning("an Event could not be posted: %s", error)
            return not isinstance(error, TransientError)
        return True


class Wake:
    """What the outbox calls when it has results."""

    def __init__(self, call: "asyncio.Event") -> None:
        self._event = call
        self.has_results = False

    def __call__(self) -> None:
        """Wake the task that waits."""
        self.has_results = True
        self._event.set()


def is_worth_writing(
    before: IncidentRollbackStatus, after: IncidentRollbackStatus, age: float
) -> bool:
    """
    Say whether a status is news, `age` seconds after the last write.

    What anybody waits for is written at once.  That the patch went in, that the pods are healthy,
    that nothing came in the hold and that a note was taken may wait a moment to share a write:
    each can be seen again.  The count of pods alone is written each 15 s.
    """
    if before == after:
        return False
    if after.phase is Phase.PENDING or _essence(before) != _essence(after):
        return True
    if _shared(before) != _shared(after):
        is_all_told = after.phase in FINAL_PHASES and timeline.is_told(after)
        return is_all_told or age >= ACK_SECONDS
    return age >= MESSAGE_SECONDS


def due_events(rollback: IncidentRollback, workload: Workload | None) -> Sequence[ClusterEvent]:
    """Return the Events that this state calls for, on the workload and on the resource."""
    status = rollback.status
    events: list[ClusterEvent] = []
    is_patched = status.patched_at is not None or (
        status.phase is Phase.ROLLING_BACK and is_written(rollback, workload)
    )
    if is_patched and status.to is not None:
        text = f"template of revision {status.to.revision} restored ({join(status.to.images)}) by "
        text += f"IncidentRollback {rollback.metadata.namespace}/{rollback.metadata.name}"
        events.append(_on_workload(rollback, "start", "Normal", "RollbackStarted", text))
    ready = get(status.conditions, "Ready")
    if status.phase in FINAL_PHASES and ready is not None:
        kind = "Normal" if ready.status == "True" else "Warning"
        reason = f"Rollback{status.phase}"
        text = f"{ready.reason}: {ready.message}"
        if is_patched:
            events.append(_on_workload(rollback, "end", kind, reason, text))
        events.append(_on_resource(rollback, kind, reason, text))
    return events


def _essence(status: IncidentRollbackStatus) -> IncidentRollbackStatus:
    conditions = tuple(
        c.model_copy(update={"message": ""}) if c.type in _SPOKEN else c
        for c in status.conditions
        if not ((c.type == "Reported" and c.status != "False") or _is_calm_hold(c))
    )
    keys = tuple(
        u.model_copy(update={"text": "", "delivered_at": None, "external_id": ""})
        for u in status.updates
        if u.key != "progress"
    )
    unshared = {"patched_at": None, "healthy_since": None}
    return status.model_copy(update={"conditions": conditions, "updates": keys, **unshared})


def _shared(status: IncidentRollbackStatus) -> tuple[object, ...]:
    """Return what may wait a moment."""
    held = any(_is_calm_hold(condition) for condition in status.conditions)
    return status.updates, status.patched_at, status.healthy_since, held


def _is_calm_hold(condition: Condition) -> bool:
    return condition.type == "Held" and condition.status == "True"


def _as_remembered(rollback: IncidentRollback, memory: Memory) -> IncidentRollback:
    """Return a rollback with what this process saw of it and has not stored yet."""
    status = rollback.status
    if status.phase is not Phase.ROLLING_BACK or memory.patched_at is None:
        return rollback
    # Another process may have stored when it was patched, by another clock: that stands.
    patched_at = status.patched_at or memory.patched_at
    seen = {"patched_at": patched_at, "healthy_since": memory.healthy_since}
    return rollback.model_copy(update={"status": status.model_copy(update=seen)})


def _speaks_of_owners(seen: Observation, move: Move) -> bool:
    """
    Say whether it is told, after the patch, who brings the old revision back.

    While it is watched nobody hears of that, and an Application is not read each time.
    """
    is_patched = seen.rollback.status.patched_at is not None
    is_news = isinstance(move, Hold) and move.news is not None
    return is_patched and (is_news or isinstance(move, (Succeed, Fail)))


def _is_held(status: IncidentRollbackStatus) -> bool:
    """The workload is still to be watched: it was changed, and the hold is not over."""
    return status.patched_at is not None and get(status.conditions, "Held") is None


def _on_workload(
    rollback: IncidentRollback, key: str, kind: str, reason: str, text: str
) -> ClusterEvent:
    target = rollback.status.target
    assert target is not None  # noqa: S101  # only what was claimed is spoken of
    return ClusterEvent(
        api_version="apps/v1",
        kind=target.kind,
        namespace=target.namespace,
        name=target.name,
        uid=target.uid,
        key=f"{rollback.metadata.uid[:8]}-{key}",
        type="Warning" if kind == "Warning" else "Normal",
        reason=reason,
        message=text,
    )


def _on_resource(rollback: IncidentRollback, kind: str, reason: str, text: str) -> ClusterEvent:
    return ClusterEvent(
        api_version=rollback.api_version,
        kind=rollback.kind,
        namespace=rollback.metadata.namespace,
        name=rollback.metadata.name,
        uid=rollback.metadata.uid,
        key="end",
        type="Warning" if kind == "Warning" else "Normal",
        reason=reason,
        message=text,
    )


def _change_facts(rollback: IncidentRollback) -> ChangeFacts | None:
    status = rollback.status
    if status.patched_at is None or status.finished_at is None or status.target is None:
        return None
    trace = trace_of(rollback)
    return ChangeFacts(
        starts_at=status.patched_at,
        ends_at=status.finished_at,
        relation=timeline.relation_of(rollback),
        labels={
            "type": "rollback",
            "namespace": status.target.namespace,
            "deployment": status.target.name,
            **({"trace-id": trace.trace_id} if trace is not None else {}),
        },
        why=f"IncidentRollback {rollback.metadata.name}",
    )


def _not_permitted(error: ForbiddenError) -> Wait:
    return Wait(
        error.reason,
        quote(str(error), MAX_ANSWER),
        "let the operator in: kubectl apply -k manifests/target-namespace -n NAMESPACE",
        after=2.0,
    )


def _pause(move: Move) -> float:
    return move.after if isinstance(move, (Wait, Watch, Hold)) else 0.0


def _distinct(*groups: Sequence[IncidentRollback]) -> Sequence[IncidentRollback]:
    """Return each resource once, as the last group has it."""
    return list({r.metadata.uid: r for group in groups for r in group}.values())


def _fields_of(place: Place) -> Sequence[str]:
    """Return field selectors for what may have changed something in the environment of a place."""
    may_have = "status.phase!=Refused,status.phase!=Previewed"
    within = f"{may_have},status.target.namespace={_field_value(place.namespace)}"
    if not place.environment:
        return [within]
    named = f"{may_have},status.target.environment={_field_value(place.environment)}"
    return [named, f"{within},status.target.environment="]


def _field_value(value: str) -> str:
    """Escape a value for a field selector."""
    return re.sub(r"([\\,=])", r"\\\1", value)
