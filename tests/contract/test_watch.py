"""
The real kopf, in its thread, against a stand-in API server that lists and watches as scripted.

What is asserted: what we hear of, which requests are made, and whether kopf had to be started
anew.  Every fault is followed by something new, and that has to be heard.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from incident_rollback.controller.watch import EndlessBackoff, Waits, Watch
from incident_rollback.crd.v1alpha1 import GROUP, ROLLBACKS, VERSION
from incident_rollback.domain.raw import Json
from tests.fakes.apiserver import status

PATIENCE_SECONDS = 60.0
"""Only ever used up by a failure."""
ALL = f"/apis/{GROUP}/{VERSION}/{ROLLBACKS}"
QUICK = Waits(backoff=EndlessBackoff(0.02), inactivity=30.0, login=0.4)
BY_ITSELF = 9
"""How often kopf would try by itself before it ends."""
GONE = status(410, "too old resource version")
KIND: Json = {
    "name": ROLLBACKS,
    "singularName": "incidentrollback",
    "namespaced": True,
    "kind": "IncidentRollback",
    "verbs": ["get", "list", "watch", "update", "patch", "create", "delete"],
    "shortNames": ["irb"],
}
NAMESPACES: Json = {
    "name": "namespaces",
    "singularName": "namespace",
    "namespaced": False,
    "kind": "Namespace",
    "verbs": ["get", "list", "watch"],
}


@dataclass
class Stream:
    """One watch that is open: what is put into it goes out, the end is None."""

    request: web.Request
    lines: asyncio.Queue[Json | None] = field(default_factory=asyncio.Queue[Json | None])
    is_deaf: bool = False
    """It stays open, and passes nothing."""


@dataclass
class Asked:
    """A request for the resources, or one that writes."""

    method: str
    path: str
    query: dict[str, str]

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query


class Server:
    """
    Lists and watches IncidentRollbacks, and has kopf find what it looks for at its start.

    Kinder than the real one: no selector is applied, and what was ever told can be told again.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.history: list[tuple[int, Json]] = []
        """Every event by its version: a watch goes on from where it was."""
        self.streams: list[Stream] = []
        self.asked: list[Asked] = []
        self.refuses = 0
        """Status of the answers to lists and watches; 0: they are answered."""
        self.refuses_watches = 0
        """The same of watches alone."""
        self.left = inf
        """How many are refused before they are answered again."""
        self.refused = 0
        self._version = 100

    # What happens in the cluster

    def put(self, name: str, *, told: bool = True, settled: bool = False) -> None:
        """Make or change a resource; one that is settled leaves what is selected."""
        is_new = name not in self.objects
        raw = self._next(name, settled)
        if settled:
            self.objects.pop(name, None)
        else:
            self.objects[name] = raw
        kind = "DELETED" if settled else "ADDED" if is_new else "MODIFIED"
        self._tell({"type": kind, "object": raw}, told=told)

    def delete(self, name: str, *, told: bool = True) -> None:
        del self.objects[name]
        self._tell({"type": "DELETED", "object": self._next(name, settled=False)}, told=told)

    def say(self, event: Json) -> None:
        """Put something into every watch that is open."""
        for stream in self.streams:
            stream.lines.put_nowait(event)

    def drop(self) -> None:
        """Break every watch that is open."""
        for stream in self.streams:
            if stream.request.transport is not None:
                stream.request.transport.abort()

    def end(self) -> None:
        """End every watch as a server does that has had enough."""
        for stream in self.streams:
            stream.lines.put_nowait(None)

    def half_close(self) -> None:
        """End our side of the connections in the middle of an answer; theirs stays open."""
        for stream in self.streams:
            transport = stream.request.transport
            assert isinstance(transport, asyncio.Transport)
            transport.write_eof()

    def deafen(self) -> None:
        """Have every watch stay open and pass nothing any more."""
        for stream in self.streams:
            stream.is_deaf = True

    def refuse(self, code: int, times: float = inf) -> None:
        """Answer so many of the next lists and watches with a code."""
        self.refuses, self.left = code, times

    # What was seen

    @property
    def lists(self) -> list[Asked]:
        return [one for one in self.asked if one.path == ALL and not one.is_watch]

    @property
    def watches(self) -> list[Asked]:
        return [one for one in self.asked if one.path == ALL and one.is_watch]

    @property
    def writes(self) -> list[Asked]:
        return [one for one in self.asked if one.method != "GET"]

    # HTTP

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        server = TestServer(app)
        async with server:
            yield str(server.make_url("")).rstrip("/")
            self.end()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, dict(request.query))
        self.asked.append(asked)
        if request.path != ALL:
            return web.json_response(discovery(request.path))
        if (code := self._refusal(asked)) != 0:
            self.refused += 1
            return web.json_response(status(code, f"scripted {code}"), status=code)
        if not asked.is_watch:
            version = {"resourceVersion": str(self._version)}
            body = {"kind": "IncidentRollbackList", "apiVersion": f"{GROUP}/{VERSION}"}
            items = [*self.objects.values()]
            return web.json_response({**body, "metadata": version, "items": items})
        return await self._watch(request, int(asked.query["resourceVersion"]))

    def _refusal(self, asked: Asked) -> int:
        if asked.is_watch and self.refuses_watches:
            return self.refuses_watches
        if not (self.refuses and self.left):
            return 0
        self.left -= 1
        return self.refuses

    async def _watch(self, request: web.Request, since: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        stream = Stream(request)
        for version, event in self.history:
            if version > since:
                stream.lines.put_nowait(event)
        self.streams.append(stream)
        try:
            while (line := await stream.lines.get()) is not None:
                if not stream.is_deaf:
                    await response.write(json.dumps(line).encode() + b"\n")
        except ConnectionError:
            return response  # It was broken, as scripted.
        finally:
            self.streams.remove(stream)
        await response.write_eof()
        return response

    def _next(self, name: str, settled: bool) -> Json:
        self._version += 1
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "IncidentRollback",
            "metadata": {
                "name": name,
                "namespace": "shop",
                "uid": f"uid-{name}",
                "resourceVersion": str(self._version),
                "creationTimestamp": "2026-11-23T02:14:00Z",
            },
            "spec": {},
            "status": {"settled": settled},
        }

    def _tell(self, event: Json, *, told: bool) -> None:
        if told:
            self.history.append((self._version, event))
            self.say(event)


def discovery(path: str) -> Json:
    """Return what kopf reads at its start of what there is."""
    match path:
        case "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        case "/apis":
            known = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
            group = {"name": GROUP, "versions": [known], "preferredVersion": known}
            return {"kind": "APIGroupList", "groups": [group]}
        case _ if path.endswith(f"{GROUP}/{VERSION}"):
            return {"kind": "APIResourceList", "resources": [KIND]}
        case "/api/v1":  # It waits until it has found them, and never asks for one.
            return {"kind": "APIResourceList", "resources": [NAMESPACES]}
        case _:
            return {"kind": "APIResourceList", "resources": []}


@dataclass
class Ear:
    """What was heard of, and how often kopf was started."""

    server: Server
    heard: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    starts: int = 0
    watch: Watch | None = None

    def hear(self, kind: str, raw: Json) -> None:
        self.heard.append((kind, raw))

    def start(self) -> None:
        self.starts += 1

    def kinds(self, name: str) -> list[str]:
        return [kind for kind, raw in self.heard if raw["metadata"]["name"] == name]

    async def hears(self, name: str, kind: str = "") -> None:
        """Wait until something is heard of a resource, whatever or just that."""
        await until(lambda: any(kind in ("", one) for one in self.kinds(name)))

    async def watches(self, beside: Sequence[Stream] = ()) -> None:
        """Wait until a watch is open, beside those that are named."""
        await until(lambda: any(one not in beside for one in self.server.streams))

    async def hears_of_something_new(self, starts: int) -> None:
        """See that what comes now is heard, and that kopf was started so often."""
        self.server.put("new")
        await self.hears("new")
        assert self.starts == starts
        assert self.server.writes == []


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110  # another thread cannot tell
            await asyncio.sleep(0.005)


async def always() -> bool:
    return True


Listen = Callable[..., contextlib.AbstractAsyncContextManager[Ear]]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Listen:
    @contextlib.asynccontextmanager
    async def listening(*names: str, waits: Waits = QUICK) -> AsyncGenerator[Ear]:
        """Have kopf watch a server that has some resources; the first watch is open."""
        server = Server()
        for name in names:
            server.put(name)
        async with server.serving() as url:

            def login(**_: object) -> kopf.ConnectionInfo:
                return kopf.ConnectionInfo(server=url, token="the same each time")

            monkeypatch.setattr(kopf, "login_via_client", login)
            ear = Ear(server)
            ear.watch = Watch(ear.hear, ear.start, waits)
            task = asyncio.create_task(ear.watch.run(always))
            try:
                await ear.watches()
                yield ear
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await until(lambda: "kopf" not in {one.name for one in threading.enumerate()})

    return listening


# --- All is well


async def test_over_a_whole_life_nothing_is_written_and_everything_is_heard(
    listen: Listen,
) -> None:
    async with listen("old") as ear:
        await ear.hears("old", "LISTED")
        ear.server.put("new")
        ear.server.put("new")
        ear.server.put("new", settled=True)
        await ear.hears("new", "DELETED")
        assert ear.kinds("new") == ["ADDED", "MODIFIED", "DELETED"]
        ear.server.delete("old")
        await ear.hears("old", "DELETED")
        assert ear.server.writes == []
        assert ear.starts == 1


async def test_what_leaves_the_selection_is_told_with_its_last_state(listen: Listen) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.put("old", settled=True)
        await ear.hears("old", "DELETED")
        _, raw = ear.heard[-1]
        assert raw["status"] == {"settled": True}
        assert "deletionTimestamp" not in raw["metadata"]


async def test_only_what_is_not_settled_is_asked_for_by_list_and_by_watch(listen: Listen) -> None:
    async with listen("old") as ear:
        (listed,), (watched,) = ear.server.lists, ear.server.watches
        assert listed.query["fieldSelector"] == "status.settled!=true"
        assert watched.query["fieldSelector"] == "status.settled!=true"
        assert watched.query["allowWatchBookmarks"] == "true"
        assert watched.query["timeoutSeconds"] == "290"


async def test_nothing_is_read_but_our_own_kind_and_what_there_is(listen: Listen) -> None:
    """No CRDs, no namespaces, no peering: for all that a role would be needed."""
    async with listen("old") as ear:
        await ear.hears("old")
        paths = {one.path for one in ear.server.asked} - {ALL}
        assert paths == {"/api", "/apis", "/api/v1", f"/apis/{GROUP}/{VERSION}"}


async def test_a_thousand_at_once_are_all_heard(listen: Listen) -> None:
    async with listen() as ear:
        for number in range(1000):
            ear.server.put(f"r-{number}")
        await until(lambda: len({raw["metadata"]["name"] for _, raw in ear.heard}) == 1000)
        assert ear.server.writes == []


# --- The watch ends


async def test_after_a_410_all_is_listed_anew_and_what_has_vanished_is_not_told(
    listen: Listen,
) -> None:
    """So the safety list looks for what vanished: the watch will never say it."""
    async with listen("kept", "vanished") as ear:
        await ear.hears("vanished")
        ear.server.delete("vanished", told=False)
        ear.server.say({"type": "ERROR", "object": GONE})
        await until(lambda: ear.kinds("kept").count("LISTED") == 2)
        await ear.watches()
        await ear.hears_of_something_new(starts=1)
        assert ear.kinds("vanished") == ["LISTED"]


ENDS = [
    pytest.param(Server.drop, id="broken off"),
    pytest.param(Server.end, id="ended by the server"),
    pytest.param(Server.half_close, id="half closed, in the middle of an answer"),
]


@pytest.mark.parametrize("end", ENDS)
async def test_a_watch_that_ends_goes_on_from_where_it_was(
    listen: Listen, end: Callable[[Server], None]
) -> None:
    async with listen("old") as ear:
        ear.server.put("before")
        await ear.hears("before")
        before = ear.server.objects["before"]["metadata"]["resourceVersion"]
        open_now = [*ear.server.streams]
        end(ear.server)
        ear.server.put("between")
        await ear.hears("between")
        await ear.watches(beside=open_now)
        assert ear.server.watches[-1].query["resourceVersion"] >= before
        assert len(ear.server.lists) == 1
        await ear.hears_of_something_new(starts=1)


async def test_a_watch_that_stays_open_and_passes_nothing_is_left(listen: Listen) -> None:
    """The API server sends a bookmark each minute: what is silent for longer is dead."""
    async with listen("old", waits=Waits(EndlessBackoff(0.02), inactivity=0.5)) as ear:
        await ear.hears("old")
        ear.server.deafen()
        ear.server.put("lost")
        await ear.hears("lost")
        await ear.hears_of_something_new(starts=1)


@pytest.mark.parametrize("code", [500, 504, 429, 403])
async def test_an_error_in_the_stream_ends_kopf_and_it_is_started_again(
    listen: Listen, code: int
) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.say({"type": "ERROR", "object": status(code, "scripted")})
        await until(lambda: ear.starts == 2)
        await ear.hears_of_something_new(starts=2)


async def test_told_to_start_again_it_lists_anew(listen: Listen) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.deafen()
        ear.server.put("missed")
        assert ear.watch is not None
        ear.watch.restart()
        await ear.hears("missed", "LISTED")
        await ear.hears_of_something_new(starts=2)


# --- The API server refuses


@pytest.mark.parametrize("code", [403, 500, 503, 429])
async def test_refused_for_minutes_it_goes_on_by_itself(listen: Listen, code: int) -> None:
    """In two minutes it tries some eighty times; by itself kopf would have ended after nine."""
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.refuse(code, times=80)
        ear.server.drop()
        await until(lambda: ear.server.refused == 80)
        await ear.hears_of_something_new(starts=1)


@pytest.mark.parametrize("code", [403, 500])
async def test_that_only_the_watch_is_refused_is_not_the_end_either(
    listen: Listen, code: int
) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.refuses_watches = code
        ear.server.drop()
        await until(lambda: ear.server.refused > BY_ITSELF)
        ear.server.refuses_watches = 0
        await ear.hears_of_something_new(starts=1)


async def test_one_401_with_the_same_token_is_not_the_end(listen: Listen) -> None:
    """Without an end of its own kopf would not take the same credential again."""
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.refuse(401, times=1)
        ear.server.drop()
        await until(lambda: ear.server.refused == 1)
        await ear.hears_of_something_new(starts=1)


async def test_a_lasting_401_is_no_hot_loop_and_is_got_over(listen: Listen) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.refuse(401)
        ear.server.drop()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await until(lambda: ear.server.refused > 8)
        # Three logins a minute are free, each one after them waits for 0.2 to 0.4 seconds.
        assert ear.server.refused <= 4 + (loop.time() - began) / 0.2
        ear.server.refuse(0)
        await ear.hears_of_something_new(starts=1)


async def test_without_the_crd_it_ends_and_is_started_again_when_it_is_there(
    listen: Listen,
) -> None:
    async with listen("old") as ear:
        await ear.hears("old")
        ear.server.refuse(404, times=3)
        ear.server.drop()
        await until(lambda: ear.server.refused == 3)
        ear.server.put("new")
        await ear.hears("new")
        assert ear.starts > 1


async def test_it_ends_at_once_whatever_is_under_way(listen: Listen) -> None:
    """Its thread is gone, and leaves no task behind: `listen` waits for that."""
    tasks = asyncio.all_tasks()
    async with listen("old") as ear:
        ear.server.refuse(500)
        ear.server.drop()
        await until(lambda: ear.server.refused > 3)
    assert asyncio.all_tasks() == tasks
