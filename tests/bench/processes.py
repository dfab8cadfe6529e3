"""Measures of the processes: memory, start and end, takeover, old resources, an API server away."""

import asyncio
import secrets
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Final

import aiohttp

from tests.bench.ground import HOME_ROLLBACKS, NAMESPACE, Ground, leads, rest, rollback_of
from tests.bench.plan import Plan
from tests.bench.requests import UNTOUCHED_SECONDS, only
from tests.bench.samples import Samples
from tests.bench.sender import Webhook, send, send_at_once
from tests.bench.witness import answered, patches_of
from tests.sandbox.api import Json
from tests.sandbox.build import Say
from tests.sandbox.components import Component
from tests.sandbox.controlplane import ControlPlane
from tests.sandbox.processes import Proc
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.waiting import wait_for

MANY: Final = 50
IDLE_SECONDS: Final = 5.0
"""After a start, or after the last rollback, before memory is looked at."""
PROBE_SECONDS: Final = 0.005
MB: Final = 1_000_000
WRITERS: Final = 16
MAKER: Final = "maker"


def peak_bytes(proc: Proc) -> int:
    """Return the most memory that a process has held so far."""
    status = Path(f"/proc/{proc.pid}/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def both(ground: Ground) -> tuple[Component, Component]:
    return ground.bridge, ground.controller


def memory(ground: Ground, samples: Samples, say: Say) -> None:
    """Measure memory after a start, and after so many rollbacks at once."""
    ground.begin_again()
    rest(IDLE_SECONDS)
    for one in both(ground):
        samples.add(f"{one.name}: memory idle, MB", one.proc.rss_bytes() / MB)
    names = [f"memory-{number}" for number in range(MANY)]
    ground.break_many(names, pods=1)
    sent = send_at_once([ground.webhook(ground.body(name)) for name in names])
    for answer in sent:
        rollback_of(answer)
    ground.wait_ended(MANY)
    rest(IDLE_SECONDS)
    for one in both(ground):
        samples.add(f"{one.name}: memory after 50 at once, MB", one.proc.rss_bytes() / MB)
        samples.add(f"{one.name}: memory at its peak, MB", peak_bytes(one.proc) / MB)
    ground.clear()
    say("memory")


def start_and_end(ground: Ground, samples: Samples, plan: Plan, say: Say) -> None:
    """Measure exec to ready, and SIGTERM to gone."""
    for _ in range(plan.starts):
        for one in both(ground):
            samples.add(f"{one.name}: SIGTERM to gone, ms", one.stop() * 1000)
            samples.add(f"{one.name}: exec to ready, ms", seconds_to_ready(one) * 1000)
    ground.wait_led()
    say("start and end")


def seconds_to_ready(component: Component) -> float:
    """Start it, and return how long it took from exec until /readyz said so."""
    proc = component.start(wait_ready=False)

    def is_ready() -> float | None:
        try:
            status, _ = component.ask_ops("/readyz")
        except OSError:
            return None
        return time.monotonic() if status == 200 else None

    at = wait_for(is_ready, f"{component.name} to be ready", every_seconds=PROBE_SECONDS)
    return at - proc.started_at


def takeover(ground: Ground, samples: Samples, plan: Plan, say: Say) -> None:
    """Measure from the end of the leader until a request made right then is patched by another."""
    pair = [ground.controller, ground.second_controller()]
    pair[1].start()
    for number in range(plan.takeovers):
        for how in (signal.SIGTERM, signal.SIGKILL):
            name = f"takeover-{how.name.casefold()}-{number}"
            ground.break_many([name])
            webhook = ground.webhook(ground.body(name))
            leader = wait_for(lambda: next(filter(leads, pair), None), "a leader")
            began = time.time()
            leader.proc.kill(how)
            patched = patched_at(ground, name, webhook)
            samples.add(f"controller: {how.name} to the next patch, ms", (patched - began) * 1000)
            leader.proc.wait()
            leader.start()
            ground.clear()
    pair[1].stop()
    ground.wait_led()
    say("takeover")


def patched_at(ground: Ground, name: str, webhook: Webhook) -> float:
    """Ask for a rollback, wait for its end, and return when its patch went in."""
    mark = ground.sandbox.audit.mark()
    rollback_of(send(webhook))
    rest(UNTOUCHED_SECONDS)
    ground.wait_ended(1)
    patches = patches_of(ground.sandbox.settled_audit().records(mark), NAMESPACE)
    return answered(only(patches, name))


def away(ground: Ground, samples: Samples, plan: Plan, say: Say) -> None:
    """Measure from the return of the API server to the patch of a rollback asked for right then."""
    name = "after-outage"
    ground.break_many([name])
    webhook = ground.webhook(ground.body(name))
    mark = ground.sandbox.settled_audit().mark()
    back: list[float] = []
    plane = ground.sandbox.control_plane
    plane.stop_api_server()
    rest(plan.away_seconds)
    asking = threading.Thread(target=_ask_when_back, args=(ground, webhook, back))
    asking.start()
    plane.start_api_server()
    asking.join()
    ground.wait_ended(1)
    patches = patches_of(ground.sandbox.settled_audit().records(mark), NAMESPACE)
    patched = answered(only(patches, name))
    samples.add("ours: API server back to the next patch, ms", (patched - back[0]) * 1000)
    ground.clear()
    say(f"API server away for {plan.away_seconds:g} s")


def _ask_when_back(ground: Ground, webhook: Webhook, back: list[float]) -> None:
    with ground.sandbox.control_plane.admin() as admin:
        wait_for(admin.is_ready, "the API server", every_seconds=0.02)
    back.append(time.time())
    rollback_of(send(webhook))


def old_resources(ground: Ground, samples: Samples, plan: Plan, say: Say) -> None:
    """Measure what settled resources of the past cost at a start.  Leaves them there."""
    controller, example = ground.controller, an_example(ground)
    for when in ("without", "with"):
        if when == "with":
            say(f"making {plan.settled:,} settled resources")
            make_settled(ground, example, plan.settled)
        for _ in range(plan.starts):
            controller.stop()
            samples.add(
                f"controller: exec to ready {when} old, ms", seconds_to_ready(controller) * 1000
            )
            rest(IDLE_SECONDS)
            samples.add(f"controller: memory {when} old, MB", controller.proc.rss_bytes() / MB)
    say("old resources")


def an_example(ground: Ground) -> Json:
    """Roll one Deployment back, and return its resource once it is settled."""
    ground.break_many(["example"])
    rollback_of(send(ground.webhook(ground.body("example"))))
    ground.wait_settled(1)
    (found,) = ground.rollbacks()
    ground.clear()
    return found


def make_settled(ground: Ground, example: Json, count: int) -> None:
    """Make resources like one that is settled, as the years leave them."""
    kubectl = ground.sandbox.kubectl
    kubectl.run("create", "serviceaccount", MAKER, "-n", NAMESPACE)
    who = ("--clusterrole=cluster-admin", f"--serviceaccount={NAMESPACE}:{MAKER}")
    kubectl.run("create", "clusterrolebinding", MAKER, *who)
    asyncio.run(_make_settled(ground.sandbox.control_plane, example, count))


async def _make_settled(plane: ControlPlane, example: Json, count: int) -> None:
    """By a client that is quicker than that of the sandbox, for these are 10,000 requests."""
    context = ssl.create_default_context(cafile=str(plane.ca))
    names = (f"old-{secrets.token_hex(8)}" for _ in range(count))
    headers = {"Authorization": f"Bearer {plane.token(NAMESPACE, MAKER)}"}
    connector = aiohttp.TCPConnector(ssl=context, limit=WRITERS)
    async with aiohttp.ClientSession(plane.server, headers=headers, connector=connector) as session:

        async def work() -> None:
            for name in names:
                metadata = {"name": name, "namespace": HOME_NAMESPACE}
                body = {key: example[key] for key in ("apiVersion", "kind", "spec")}
                async with session.post(
                    HOME_ROLLBACKS, json={**body, "metadata": metadata}, raise_for_status=True
                ) as answer:
                    made = await answer.json()
                path = f"{HOME_ROLLBACKS}/{name}/status"
                settled = {**made, "status": example["status"]}
                async with session.put(path, json=settled, raise_for_status=True) as answer:
                    await answer.read()

        await asyncio.gather(*(work() for _ in range(WRITERS)))
