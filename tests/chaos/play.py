"""A plan is played on a scene: each deed in its order, and as near to its time as may be."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from tests.chaos.plan import AMBUSHES, Act, Deed
from tests.chaos.scene import API_VERSION, ENVIRONMENT, Inhabitant, Scene
from tests.sandbox.api import path_to
from tests.sandbox.build import Say
from tests.sandbox.errors import SandboxError
from tests.sandbox.firehydrant import Delivery
from tests.sandbox.proxy import Request, Way
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.simulation import BROKEN_IMAGE, READY_AFTER, WAITING
from tests.sandbox.waiting import wait_for

TICK_SECONDS: Final = 0.05
STEPS_AT_ONCE: Final = 8
"""A step waits for 10 s where a bridge is frozen; the others go on meanwhile."""
PATIENCE_SECONDS: Final = 200.0
"""Without anything new for so long, nothing will ever come: two looks and a wait are less."""
ROLLBACKS: Final = path_to(API_VERSION, "incidentrollbacks", HOME_NAMESPACE)
WRITES_TO_FIREHYDRANT: Final = r"(POST|PATCH|PUT) /v1/"

IsIt = Callable[[Request], bool]


def of_status(phase: str) -> IsIt:
    """Accept a write of a status in this phase, of any if it is empty."""

    def is_it(request: Request) -> bool:
        if request.method != "PUT" or "/incidentrollbacks/" not in request.path:
            return False
        return phase in ("", request.body["status"].get("phase"))

    return is_it


def posted_to(pattern: str) -> IsIt:
    return lambda request: request.method == "POST" and bool(re.search(pattern, request.path))


CAUGHT_AT: Final[Mapping[str, IsIt]] = {
    "the claim": of_status("RollingBack"),
    "the patch": lambda request: (
        request.method == "PATCH"
        and "/deployments/" in request.path
        and "dryRun" not in request.path
    ),
    "the end": of_status("Succeeded"),
    "any status": of_status(""),
    "a note": posted_to(r"/notes$"),
    "a change": posted_to(r"/changes/events$"),
    "Lease": lambda request: request.method in {"PUT", "POST"} and "/leases" in request.path,
}
BY_FIREHYDRANT: Final = frozenset({"a note", "a change"})

RELEASES: Final[Mapping[Deed, tuple[str, Mapping[str, str]]]] = {
    Deed.DEPLOY: ("nginx:1.{}", {}),
    Deed.DEPLOY_BAD: (BROKEN_IMAGE, {}),
    Deed.DEPLOY_STUCK: ("nginx:2.{}", {WAITING: "ImagePullBackOff"}),
    Deed.DEPLOY_SLOW: ("nginx:1.{}", {READY_AFTER: "9s"}),
}
"""The images of releases, by their number, and how their pods behave."""
WAYS: Final = {
    Deed.CUT: Way.CUT,
    Deed.DEAF: Way.DEAF,
    Deed.LATE: Way.LATE,
    Deed.MEND: Way.THROUGH,
}
WAYS_TO_FIREHYDRANT: Final = {
    Deed.CUT_FROM_FIREHYDRANT: Way.CUT,
    Deed.DEAF_TO_FIREHYDRANT: Way.DEAF,
    Deed.LATE_TO_FIREHYDRANT: Way.LATE,
    Deed.MEND_FIREHYDRANT: Way.THROUGH,
}
TO_FIREHYDRANT: Final = frozenset(
    {
        *(Deed.FAIL, Deed.LIMIT, Deed.STALL, Deed.COMMIT_AND_TIME_OUT, Deed.COMMIT_AND_FAIL),
        *(Deed.LAG, Deed.NO_LAG, Deed.GO_AWAY, Deed.COME_BACK),
    }
)


@dataclass(frozen=True)
class Asked:
    """A step that was run, and can be run again."""

    incident: str
    how: Mapping[str, Any]
    number: int
    """Of the bridge that it was sent to."""


@dataclass
class Play:
    """What is done to a scene, and how often what was done."""

    scene: Scene
    say: Say
    restarts_of_api: int = 0
    counts: Counter[Deed] = field(default_factory=Counter[Deed])
    ambushed: int = 0
    answers: list[Delivery] = field(default_factory=list[Delivery])
    _asked: list[Asked] = field(default_factory=list[Asked])
    _steps: list[Future[None]] = field(default_factory=list["Future[None]"])
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(STEPS_AT_ONCE))
    _is_api_frozen: bool = False

    def play(self, acts: Sequence[Act]) -> None:
        """Do one after the other; what comes too late is done at once."""
        began = time.monotonic()
        minutes = 0
        for act in acts:
            while time.monotonic() - began < act.at:
                self._look_after_all()
                time.sleep(TICK_SECONDS)
            self._look_after_all()
            self._do(act)
            self.counts[act.deed] += 1
            if act.at >= 60 * (minutes + 1):
                minutes += 1
                self.say(f"chaos: {minutes} min, {self.counts.total()} of {len(acts)} deeds done")

    def heal(self) -> None:
        """Take back all that was done to processes, servers and the ways to them."""
        scene = self.scene
        if self._is_api_frozen:
            self._thaw_api()
        for one in scene.inhabitants.values():
            one.thaw()
            one.set_free()
        scene.firehydrant.clear_faults()
        scene.firehydrant.come_back()
        scene.lag(0)
        for step in self._steps:
            step.result()
        self._pool.shutdown()
        wait_for(self._are_all_ready, "all processes to be ready", seen=self._last_words)

    def wait_settled(self) -> bool:
        """Wait until every rollback is settled; False when nothing happens any more."""
        seen, since = "", time.monotonic()
        while True:
            self._look_after_all()
            found = self.scene.sandbox.api.list(ROLLBACKS)
            if all(one.get("status", {}).get("settled") for one in found):
                return True
            versions = [one["metadata"]["resourceVersion"] for one in found]
            now = f"{versions} {len(self.scene.firehydrant.requests)}"
            if now != seen:
                seen, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE_SECONDS:
                return False
            time.sleep(0.5)

    def _are_all_ready(self) -> bool:
        """By themselves, or started again after their end; nobody else is."""
        self._look_after_all()
        return all(one.is_ready() for one in self.scene.inhabitants.values())

    def _last_words(self) -> str:
        return "\n".join(one.component.log_tail(5) for one in self.scene.inhabitants.values())

    def _look_after_all(self) -> None:
        for one in self.scene.inhabitants.values():
            one.look_after()

    def _do(self, act: Act) -> None:
        """Do one thing; that it cannot be done just now is what life is like."""
        match act.deed:
            case Deed.ASK | Deed.ASK_OURS | Deed.PREVIEW | Deed.REPEAT:
                self._ask(act)
            case Deed.AMBUSH:
                self._lie_in_wait(act)
            case Deed.KILL | Deed.STOP | Deed.FREEZE | Deed.THAW:
                self._to_process(act, self.scene.inhabitants[act.who])
            case deed if deed in WAYS or deed in WAYS_TO_FIREHYDRANT:
                self._to_way(act, self.scene.inhabitants[act.who])
            case Deed.FREEZE_API | Deed.THAW_API | Deed.RESTART_API:
                self._to_api_server(act.deed)
            case deed if deed in TO_FIREHYDRANT:
                self._to_firehydrant(act)
            case _:
                self._to_workload(act)

    # Asking

    def _ask(self, act: Act) -> None:
        if act.deed is Deed.REPEAT:
            if not self._asked:
                return
            before = self._asked[-1 - act.number % len(self._asked)]
            asked = Asked(before.incident, before.how, 1 - before.number)
        else:
            incident = self.scene.firehydrant.declare(
                services=[act.who], environments=[ENVIRONMENT]
            )
            how: dict[str, Any] = {"form": "relay" if act.deed is Deed.ASK else "ours"}
            if act.deed is Deed.PREVIEW:
                how["dry_run"] = True
            asked = Asked(incident, how, act.number)
            self._asked.append(asked)
        self._steps.append(self._pool.submit(self._run_step, asked))

    def _run_step(self, asked: Asked) -> None:
        scene = self.scene
        delivery = scene.firehydrant.run_step(
            scene.webhook_url(asked.number),
            incident_id=asked.incident,
            secret=scene.secret,
            **asked.how,
        )
        self.answers.append(delivery)

    # Doing to processes, and to the ways between them

    def _to_process(self, act: Act, who: Inhabitant) -> None:
        match act.deed:
            case Deed.KILL:
                who.kill()
            case Deed.STOP:
                who.stop()
            case Deed.FREEZE:
                who.freeze()
            case _:
                who.thaw()

    def _lie_in_wait(self, act: Act) -> None:
        """The next write of that kind is the last thing that whoever makes it does."""
        what = AMBUSHES[act.number]
        for who in self.scene.controllers:
            proxy = who.to_firehydrant if what in BY_FIREHYDRANT else who.to_api
            assert proxy is not None
            proxy.set_trap(CAUGHT_AT[what], partial(self._ambush, who), is_after=act.is_after)

    def _ambush(self, who: Inhabitant) -> None:
        self.ambushed += 1
        for other in self.scene.controllers:
            other.clear_traps()
        who.kill()

    def _to_way(self, act: Act, who: Inhabitant) -> None:
        if act.deed in WAYS:
            who.to_api.take(WAYS[act.deed], act.seconds)
        elif who.to_firehydrant is not None:
            who.to_firehydrant.take(WAYS_TO_FIREHYDRANT[act.deed], act.seconds)

    def _to_api_server(self, deed: Deed) -> None:
        control_plane = self.scene.sandbox.control_plane
        if deed is Deed.FREEZE_API and not self._is_api_frozen:
            self._is_api_frozen = True
            control_plane.freeze_api_server()
        elif deed is Deed.THAW_API and self._is_api_frozen:
            self._thaw_api()
        elif deed is Deed.RESTART_API and not self._is_api_frozen:
            self._restart_api()

    def _thaw_api(self) -> None:
        self._is_api_frozen = False
        self.scene.sandbox.control_plane.thaw_api_server()

    def _restart_api(self) -> None:
        """
        End it and start it again; the witness must not miss a thing by that.

        So the ways to it are cut before, and it is ended when all that got through is on record.
        """
        ways = {one.name: one.to_api.way for one in self.scene.inhabitants.values()}
        for one in self.scene.inhabitants.values():
            one.to_api.take(Way.CUT, one.to_api.late_seconds)
        for one in self.scene.inhabitants.values():
            one.to_api.wait_idle()
        self.scene.sandbox.settled_audit()
        self.scene.sandbox.control_plane.stop_api_server()
        self.scene.sandbox.control_plane.start_api_server()
        self.restarts_of_api += 1
        for one in self.scene.inhabitants.values():
            one.to_api.take(ways[one.name], one.to_api.late_seconds)

    # Doing to FireHydrant

    def _to_firehydrant(self, act: Act) -> None:
        firehydrant, times = self.scene.firehydrant, act.number
        match act.deed:
            case Deed.FAIL:
                firehydrant.fail_next(502, times)
            case Deed.LIMIT:
                firehydrant.fail_next(429, times, retry_after=int(act.seconds))
            case Deed.STALL:
                firehydrant.stall(act.seconds, times)
            case Deed.COMMIT_AND_TIME_OUT:
                firehydrant.commit_then_time_out(
                    times, WRITES_TO_FIREHYDRANT, hang_up_after=act.seconds
                )
            case Deed.COMMIT_AND_FAIL:
                firehydrant.commit_then_500(times, WRITES_TO_FIREHYDRANT)
            case Deed.LAG:
                self.scene.lag(act.seconds)
            case Deed.NO_LAG:
                self.scene.lag(0)
            case Deed.GO_AWAY:
                firehydrant.go_away()
            case _:
                firehydrant.come_back()

    # Doing to workloads

    def _to_workload(self, act: Act) -> None:
        if self._is_api_frozen:
            return  # Nobody could.
        with suppress(SandboxError):  # E.g. it is paused, and cannot be undone.
            if act.deed in RELEASES:
                image, simulated = RELEASES[act.deed]
                self._deploy(act.who, image.format(act.number), simulated)
            else:
                self._meddle(act)

    def _deploy(self, name: str, image: str, simulated: Mapping[str, str]) -> None:
        annotations = {key: simulated.get(key) for key in (WAITING, READY_AFTER)}
        self.scene.sandbox.workloads.patch_template(
            ENVIRONMENT,
            name,
            {
                "metadata": {"annotations": annotations},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        )

    def _meddle(self, act: Act) -> None:
        workloads = self.scene.sandbox.workloads
        match act.deed:
            case Deed.UNDO:
                workloads.undo(ENVIRONMENT, act.who)
            case Deed.RESTART:
                workloads.restart(ENVIRONMENT, act.who)
            case Deed.SCALE:
                workloads.scale(ENVIRONMENT, act.who, act.number)
            case Deed.PAUSE:
                workloads.pause(ENVIRONMENT, act.who)
            case Deed.RESUME:
                workloads.resume(ENVIRONMENT, act.who)
            case _:
                raise AssertionError(act)
