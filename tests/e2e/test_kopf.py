"""
The watch stalls, breaks and is refused, and the process says so, goes on, and is well again.

Between the controller and its API server stands a proxy that is a nuisance to kopf alone, or to
everything.  What kopf does with each kind of fault is looked at closer where it runs against a
stand-in: tests/contract/test_watch.py.
"""

import asyncio
import http.client
import json
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from tests.e2e.conftest import SetStage
from tests.e2e.stage import CONTROLLER_ACCOUNT, Operator, Stage
from tests.sandbox.api import Json
from tests.sandbox.credentials import write_kubeconfig
from tests.sandbox.proxy import Proxy, kept
from tests.sandbox.sandbox import HOME_NAMESPACE
from tests.sandbox.waiting import wait_for
from tests.sandbox.workloads import GOOD_IMAGE

CALM: Final = {"stableSeconds": 5}
"""Long enough for kopf to die in it."""
STALE: Final = "the watch has missed something, and told nothing since it was started again"
UNLISTED: Final = "no list of the IncidentRollbacks for 90 s"
LONGER_THAN_THAT: Final = 240.0


class Nuisance(Proxy):
    """A proxy that knows kopf by its name, and what is a watch."""

    def __init__(self, server: str, ca: Path) -> None:
        super().__init__(server, ca=ca)
        self.holds_kopf = False
        """What kopf asks from now on waits."""
        self.refuses = 0
        """The status that everything is answered with; 0: it is passed on."""
        self.refuses_kopf_once = 0
        self._deaf = frozenset[int]()
        self._watches: dict[int, web.StreamResponse] = {}

    def deafen(self) -> None:
        """Have every watch that is open stay open, and pass nothing any more."""
        assert self._watches
        self._deaf = frozenset(self._watches)

    def say(self, event: Json) -> None:
        """Put an event into every watch that is open."""
        assert self._watches
        self._run(self._say(event))

    def drop_watches(self) -> None:
        """Break every watch that is open."""
        assert self._watches
        self._run(self._break_off())

    async def _say(self, event: Json) -> None:
        for response in self._watches.values():
            await response.write(json.dumps(event).encode() + b"\n")

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        is_kopf = http.headers.get("User-Agent", "").startswith("kopf/")
        while is_kopf and self.holds_kopf:  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.02)
        code = self.refuses
        if is_kopf and self.refuses_kopf_once:
            code, self.refuses_kopf_once = self.refuses_kopf_once, 0
        if code:
            return web.json_response(status_of(code), status=code)
        return await super()._handle(http)

    async def _stream(
        self, http: web.Request, answer: aiohttp.ClientResponse, number: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=kept(answer.headers))
        await response.prepare(http)
        task = asyncio.current_task()
        assert task is not None
        self._streams[number], self._watches[number] = task, response
        try:
            with suppress(ConnectionError):
                async for chunk in answer.content.iter_any():
                    if number not in self._deaf:
                        await response.write(chunk)
        finally:
            del self._streams[number], self._watches[number]
        return response


def status_of(code: int) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "scripted",
        "code": code,
    }


@pytest.fixture
def nuisance(operator: Operator) -> Generator[Nuisance]:
    """Put a proxy before the API server that the controller talks to, for one test."""
    controller, plane = operator.controller, operator.sandbox.control_plane
    before = controller.env["KUBECONFIG"]
    controller.stop()
    with Nuisance(plane.server, plane.ca) as nuisance:
        kubeconfig = write_kubeconfig(
            operator.sandbox.root / "nuisance.kubeconfig",
            server=nuisance.url,
            ca=plane.ca,
            token=plane.token(HOME_NAMESPACE, CONTROLLER_ACCOUNT),
        )
        controller.env["KUBECONFIG"] = str(kubeconfig)
        controller.begin()
        yield nuisance
        nuisance.holds_kopf, nuisance.refuses = False, 0
        controller.env["KUBECONFIG"] = before
        controller.begin_again()


@contextmanager
def same_process(operator: Operator) -> Generator[None]:
    proc = operator.controller.proc
    yield
    assert operator.controller.proc is proc
    assert proc.is_running()


def metric(operator: Operator, name: str) -> float:
    pattern = rf"^incident_rollback_{name} (\S+)$"
    found = re.search(pattern, operator.controller.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def readyz(operator: Operator) -> tuple[int, str]:
    code, text = operator.controller.ask_ops("/readyz")
    return code, text.strip()


def see_the_next_one(stage: Stage) -> None:
    """A bad release is rolled back, and it was the watch that told of the request."""
    missed, before = metric(stage.operator, "watch_missed_total"), len(stage.patches())
    stage.break_it()
    stage.wait_settled(stage.ask())
    assert stage.images() == [GOOD_IMAGE]
    assert len(stage.patches()) == before + 1
    assert metric(stage.operator, "watch_missed_total") == missed


READY: Final = (http.client.OK, "ok")


def test_a_watch_that_stays_open_and_passes_nothing_is_found_counted_and_healed(
    nuisance: Nuisance, stage: Stage
) -> None:
    """The list finds the request within a minute; the watch is started anew, and then tells."""
    operator = stage.operator
    starts = metric(operator, "watch_starts_total")
    assert readyz(operator) == READY
    with same_process(operator):
        nuisance.deafen()
        nuisance.holds_kopf = True  # That it is healed has to wait until that was looked at.
        stage.break_it()
        name = stage.ask()
        stage.wait_phase(name, "Succeeded", "RolledBack")
        unavailable = (http.client.SERVICE_UNAVAILABLE, STALE)
        wait_for(lambda: readyz(operator) == unavailable, "it to say so", seen=operator.log)
        assert metric(operator, "watch_missed_total") == 1
        assert f"the watch did not tell of {name}: starting it again" in operator.log(200)
        wait_for(lambda: metric(operator, "watch_starts_total") == starts + 1, "kopf to start")
        nuisance.holds_kopf = False
        stage.break_it()
        stage.wait_settled(stage.ask())
        assert readyz(operator) == READY
        assert metric(operator, "watch_missed_total") == 1
        see_the_next_one(stage)
        assert metric(operator, "watch_starts_total") == starts + 1


def test_kopf_dies_of_an_error_in_the_stream_and_what_is_under_way_goes_on(
    nuisance: Nuisance, set_stage: SetStage
) -> None:
    stage = set_stage(policy=CALM)
    operator = stage.operator
    starts = metric(operator, "watch_starts_total")
    with same_process(operator):
        stage.break_it()
        name = stage.ask()
        stage.wait_patch()
        nuisance.say({"type": "ERROR", "object": status_of(504)})
        wait_for(
            lambda: metric(operator, "watch_starts_total") == starts + 1,
            "kopf to be started again",
            seen=operator.log,
        )
        stage.wait_phase(name, "Succeeded", "RolledBack")
        see_the_next_one(stage)
    assert readyz(operator) == READY


def test_a_watch_that_is_refused_once_by_401_with_the_same_token_goes_on(
    nuisance: Nuisance, stage: Stage
) -> None:
    operator = stage.operator
    starts = metric(operator, "watch_starts_total")
    with same_process(operator):
        nuisance.refuses_kopf_once = 401
        nuisance.drop_watches()
        wait_for(lambda: not nuisance.refuses_kopf_once, "the watch to be refused")
        see_the_next_one(stage)
    assert metric(operator, "watch_starts_total") == starts
    assert readyz(operator) == READY


def test_an_api_server_that_is_out_of_reach_is_said_and_so_is_that_it_is_back(
    nuisance: Nuisance, stage: Stage
) -> None:
    """Everything is answered 500; kopf goes on trying, and is not started again."""
    operator = stage.operator
    starts = metric(operator, "watch_starts_total")
    with same_process(operator):
        assert readyz(operator) == READY
        nuisance.refuses = 500
        nuisance.drop_watches()
        wait_for(
            lambda: readyz(operator) == (http.client.SERVICE_UNAVAILABLE, UNLISTED),
            "the controller to say so",
            timeout_seconds=LONGER_THAN_THAT,
            seen=operator.log,
        )
        assert metric(operator, "ready") == 0
        nuisance.refuses = 0
        operator.controller.wait_ready()
        assert metric(operator, "ready") == 1
        see_the_next_one(stage)
    assert metric(operator, "watch_starts_total") == starts
