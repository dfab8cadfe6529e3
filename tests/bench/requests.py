"""Measures of requests: one rollback at a time beside the peers, after quiet, and many at once."""

import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.bench.ground import NAMESPACE, Ground, rest, rollback_of
from tests.bench.peers import Peer, Undone
from tests.bench.plan import BATCH, Plan
from tests.bench.rulebook import Rulebook
from tests.bench.samples import Samples
from tests.bench.sender import Sent, Webhook, send, send_at_once
from tests.bench.witness import (
    Seen,
    answered,
    attempts_of,
    cost_of,
    creations,
    patches_of,
    received,
    steps_of,
)
from tests.sandbox.audit import AuditRecord
from tests.sandbox.build import Say
from tests.sandbox.errors import NotReadyError, SandboxError

OURS: Final = "ours"
WEBHOOK: Final = "webhook"
KUBECTL: Final = "kubectl"
CONTESTANTS: Final = (OURS, WEBHOOK, KUBECTL)
TURN_SECONDS: Final = 2.1
"""For a round of all three: FireHydrant is called 150 times a minute at most, five for each."""
UNTOUCHED_SECONDS: Final = 0.3
"""For so long nobody looks at what was asked for, for looking costs the API server time."""
CROWDED_SECONDS: Final = 0.1
LONG_SECONDS: Final = 120.0
"""For very many at once: that some take longer is a figure, and no reason to give up the run."""
AT_ONCE: Final = 20
LARGE: Final = 1
"""Pods of each of very many workloads."""


@dataclass
class Batch:
    """What one batch of rounds did, until the audit log is read."""

    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])
    """Webhooks by the Deployment, ours and the peer's."""
    rollbacks: dict[str, str] = field(default_factory=dict[str, str])
    settled_at: dict[str, float] = field(default_factory=dict[str, float])
    undone: dict[str, Undone] = field(default_factory=dict[str, Undone])
    asked_firehydrant: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class OneAtATime:
    """Rollbacks one after another, each contestant in its turn."""

    ground: Ground
    peer: Peer
    samples: Samples
    idle_cpu: float
    """Seconds of processor time that both of ours take in a second of idling."""
    rollbacks: list[Seen] = field(default_factory=list[Seen])

    def run(self, plan: Plan, say: Say) -> None:
        """Measure as many as the plan says; what the processor did in between, too."""
        done = 0
        while done < plan.n:
            count = min(BATCH, plan.n - done)
            self._batch(count, first=done)
            done += count
            say(f"one rollback at a time: {done} of {plan.n}")
        self.samples.steps = steps_of(self.rollbacks)

    def _batch(self, count: int, first: int) -> None:
        names = {who: [f"{who}-{first + number}" for number in range(count)] for who in CONTESTANTS}
        self.ground.break_many([name for all_of_one in names.values() for name in all_of_one])
        mark = self.ground.sandbox.settled_audit().mark()
        batch = Batch()
        cpu, began_at = self.ground.cpu_seconds(), time.monotonic()
        for number in range(count):
            began = time.monotonic()
            for turn in range(len(CONTESTANTS)):
                who = CONTESTANTS[(first + number + turn) % len(CONTESTANTS)]
                self._play(who, names[who][number], batch)
            rest(max(0.0, began + TURN_SECONDS - time.monotonic()))
        idle = self.idle_cpu * (time.monotonic() - began_at)
        self.samples.add(
            "ours: CPU for a rollback, ms", (self.ground.cpu_seconds() - cpu - idle) / count * 1000
        )
        self._read(batch, self.ground.sandbox.settled_audit().records(mark))
        self.ground.clear()

    def _play(self, who: str, name: str, batch: Batch) -> None:
        match who:
            case "ours":
                self._play_ours(name, batch)
            case "webhook":
                body = self.ground.body(name)
                batch.sent[name] = send(self.peer.webhook(body, self.ground.signature(body)))
                rest(UNTOUCHED_SECONDS)
                self.ground.wait_good([name])
            case _:
                (batch.undone[name],) = self.peer.undo([name])

    def _play_ours(self, name: str, batch: Batch) -> None:
        before = len(self.ground.firehydrant.requests)
        sent = send(self.ground.webhook(self.ground.body(name)))
        batch.sent[name], batch.rollbacks[name] = sent, rollback_of(sent)
        rest(UNTOUCHED_SECONDS)
        self.ground.wait_settled(len(batch.rollbacks))
        batch.settled_at[name] = time.time()
        batch.asked_firehydrant[name] = len(self.ground.firehydrant.requests) - before

    def _read(self, batch: Batch, records: Sequence[AuditRecord]) -> None:
        """Turn what happened into samples."""
        patches, created = patches_of(records, NAMESPACE), creations(records)
        add = self.samples.add
        for name, sent in batch.sent.items():
            patched = answered(only(patches, name))
            if name not in batch.rollbacks:
                add("webhook: POST to answer, ms", sent.answer_ms)
                add("webhook: POST to patch, ms", (patched - sent.at) * 1000)
                continue
            made = answered(created[batch.rollbacks[name]])
            add("ours: POST to answer, ms", sent.answer_ms)
            add("ours: POST to created, ms", (made - sent.at) * 1000)
            add("ours: created to patch, ms", (patched - made) * 1000)
            add("ours: POST to patch, ms", (patched - sent.at) * 1000)
            add("ours: POST to first note, ms", (self.ground.first_note_at(name) - sent.at) * 1000)
            add("ours: requests to FireHydrant", batch.asked_firehydrant[name])
            self._read_cost(name, batch, records, patches[name][0])
        for name, undone in batch.undone.items():
            add("kubectl: exec to patch, ms", (answered(only(patches, name)) - undone.at) * 1000)

    def _read_cost(
        self, name: str, batch: Batch, records: Sequence[AuditRecord], patch: AuditRecord
    ) -> None:
        sent_at = batch.sent[name].at
        mine = [r for r in records if sent_at <= received(r) <= batch.settled_at[name]]
        cost = cost_of(mine, patch)
        self.samples.add("ours: requests to the API server", cost.requests)
        self.samples.add("ours: polls of the API server", cost.polls)
        self.samples.add("ours: writes", cost.writes)
        self.samples.add("ours: status writes", cost.status_writes)
        self.rollbacks.append(Seen(sent_at, patch, mine))


def only(patches: dict[str, list[AuditRecord]], name: str) -> AuditRecord:
    """Return the one patch of a Deployment.  Raises SandboxError when there is none or more."""
    if len(patches.get(name, [])) != 1:
        raise SandboxError(f"{name} was patched {len(patches.get(name, []))} times")
    return patches[name][0]


def after_quiet(ground: Ground, samples: Samples, plan: Plan, say: Say) -> float:
    """
    Measure single rollbacks after nothing has happened for a while.

    Returns the seconds of processor time that both of ours took in a second of idling.
    """
    idle = 0.0
    for number in range(plan.after_quiet):
        name = f"quiet-{number}"
        ground.break_many([name])
        webhook = ground.webhook(ground.body(name))
        mark = ground.sandbox.settled_audit().mark()
        cpu = ground.cpu_seconds()
        rest(plan.quiet_seconds)
        idle += (ground.cpu_seconds() - cpu) / plan.quiet_seconds / plan.after_quiet
        sent = send(webhook)
        rollback_of(sent)
        rest(UNTOUCHED_SECONDS)
        ground.wait_settled(1)
        patches = patches_of(ground.sandbox.settled_audit().records(mark), NAMESPACE)
        patched = answered(only(patches, name))
        samples.add("ours: POST to patch after quiet, ms", (patched - sent.at) * 1000)
        ground.clear()
        say(f"after {plan.quiet_seconds:g} s of quiet: {number + 1} of {plan.after_quiet}")
    samples.add("ours: CPU in a second of idling, ms", idle * 1000)
    return idle


def by_rulebook(ground: Ground, book: Rulebook, samples: Samples, plan: Plan, say: Say) -> None:
    """Measure the other peer, a few times only: it takes seconds."""
    names = [f"rulebook-{number}" for number in range(plan.rulebook)]
    ground.break_many(names)
    mark = ground.sandbox.settled_audit().mark()
    sent: dict[str, Sent] = {}
    for name in names:
        body = ground.body(name)
        sent[name] = send(book.webhook(body, ground.signature(body)))
        ground.wait_good([name])
    patches = patches_of(ground.sandbox.settled_audit().records(mark), NAMESPACE)
    for name, one in sent.items():
        patched = answered(only(patches, name))
        samples.add("ansible-rulebook: POST to patch, ms", (patched - one.at) * 1000)
    ground.clear()
    say("ansible-rulebook")


def send_until_taken(webhooks: Sequence[Webhook]) -> tuple[list[Sent], int]:
    """
    Post all at once, and those again that the bridge has turned away as too many at once.

    Returns every answer in the order of sending, and how many were sent again.
    """
    sent: list[Sent] = []
    left = list(webhooks)
    while left:
        answers = send_at_once(left)
        sent += answers
        left = [hook for hook, answer in zip(left, answers, strict=True) if is_crowded(answer)]
        rest(CROWDED_SECONDS if left else 0)
    return sent, len(sent) - len(webhooks)


def is_crowded(answer: Sent) -> bool:
    """Say whether a webhook was turned away.  Raises SandboxError if it was refused otherwise."""
    if answer.status == 503 and b"too many" in answer.body:
        return True
    rollback_of(answer)
    return False


@dataclass
class AtOnce:
    """Many at once: on one workload, and each on its own."""

    ground: Ground
    peer: Peer
    samples: Samples

    def run(self, plan: Plan, say: Say) -> None:
        """Measure as often as the plan says, each contestant in its turn."""
        self.ground.begin_again()
        for number in range(plan.bursts):
            turns: list[Callable[[], None]] = [self._ours, self._kubectl, self._webhook]
            for turn in range(len(turns)):
                turns[(number + turn) % len(turns)]()
            self._one_workload()
            say(f"{AT_ONCE} at once: {number + 1} of {plan.bursts}")
        self.ground.begin_again()
        self._ours(plan.many, pods=LARGE)
        say(f"{plan.many} at once")

    def _ours(self, count: int = AT_ONCE, pods: int = 3) -> None:
        names, mark = self._set(OURS, count, pods)
        webhooks = [self.ground.webhook(self.ground.body(name)) for name in names]
        sent, again = send_until_taken(webhooks)
        rest(UNTOUCHED_SECONDS)
        with suppress(NotReadyError):
            self.ground.wait_good(names, timeout_seconds=LONG_SECONDS)
        self.samples.add(f"ours: sent again, {count} at once", again)
        self.samples.add(f"ours: answers, {count} at once, ms", *(one.answer_ms for one in sent))
        self._patched(OURS, names, min(one.at for one in sent), mark)

    def _kubectl(self) -> None:
        names, mark = self._set(KUBECTL)
        undone = self.peer.undo(names)
        began = min(one.at for one in undone)
        through = max(one.ended_at for one in undone)
        self.samples.add(
            f"kubectl: {len(names)} at once, all through, ms", (through - began) * 1000
        )
        self._patched(KUBECTL, names, began, mark)

    def _webhook(self) -> None:
        names, mark = self._set(WEBHOOK)
        bodies = [self.ground.body(name) for name in names]
        sent = send_at_once([self.peer.webhook(b, self.ground.signature(b)) for b in bodies])
        self.ground.wait_good(names)
        self._patched(WEBHOOK, names, min(one.at for one in sent), mark)

    def _one_workload(self) -> None:
        """Deliver one incident twenty times at once."""
        (name,), mark = self._set("same", 1)
        webhook = self.ground.webhook(self.ground.body(name))
        sent = send_at_once([webhook] * AT_ONCE)
        made = {rollback_of(one) for one in sent}
        rest(UNTOUCHED_SECONDS)
        self.ground.wait_ended(1)
        patches = patches_of(self.ground.sandbox.settled_audit().records(mark), NAMESPACE)
        self.samples.add("ours: patches of 20 deliveries of one incident", len(patches[name]))
        self.samples.add("ours: resources of 20 deliveries of one incident", len(made))
        self.samples.add("ours: answers, 20 repeats at once, ms", *(one.answer_ms for one in sent))
        self.ground.clear()

    def _set(self, who: str, count: int = AT_ONCE, pods: int = 3) -> tuple[list[str], int]:
        """Break so many, under names that FireHydrant has not heard yet; return the log's mark."""
        names = [f"{who}-{secrets.token_hex(3)}-{number}" for number in range(count)]
        self.ground.break_many(names, pods=pods)
        return names, self.ground.sandbox.settled_audit().mark()

    def _patched(self, who: str, names: Sequence[str], began: float, mark: int) -> None:
        """
        Keep how long it took until all were patched; see that none was patched twice.

        Of very many some may be left; of others that raises SandboxError.
        """
        records = self.ground.sandbox.settled_audit().records(mark)
        patches, attempts = patches_of(records, NAMESPACE), attempts_of(records, NAMESPACE)
        # Where nobody heard the answer to an attempt, the Deployment shows whether it went in.
        lost = (set(names) & self.ground.back() & set(attempts)) - set(patches)
        seen = {**patches, **{name: attempts[name][-1:] for name in lost}}
        wanted = names if len(names) <= AT_ONCE else [name for name in names if name in seen]
        last = max(answered(only(seen, name)) for name in wanted)
        many = f"{len(names)} on {len(names)}"
        self.samples.add(f"{who}: {many}, all patched, ms", (last - began) * 1000)
        self.samples.add(f"{who}: {many}, not patched", len(set(names) - set(seen)))
        self.ground.clear()
