"""The kopf edge.  kopf itself is stood in for; its settings and registry are the pinned ones."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import kopf
import pytest

from incident_rollback.controller.watch import (
    LOGINS_A_MINUTE,
    UNSETTLED,
    EndlessBackoff,
    Watch,
    apply,
    register,
)
from incident_rollback.crd.v1alpha1 import GROUP, ROLLBACKS
from incident_rollback.domain.raw import Json
from tests.unit.controller.fast_time import elapsed, in_fast_time

SETTINGS = [
    ("peering.standalone", True),
    ("posting.enabled", False),
    ("scanning.disabled", True),
    ("watching.server_timeout", 290),
    ("watching.client_timeout", 300),
    ("watching.connect_timeout", 5),
    ("watching.inactivity_timeout", 70.0),
    ("watching.reconnect_backoff", 0.1),
    ("watching.chunk_size", 500),
    ("networking.request_timeout", 30),
    ("networking.connect_timeout", 5),
    ("queueing.idle_timeout", 0.5),
    ("queueing.exit_timeout", 1.0),
    ("process.ultimate_exiting_timeout", None),
    ("persistence.finalizer", "incidentrollback.dev/unused"),
]


def applied() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    apply(settings)
    return settings


def names_in(settings: kopf.OperatorSettings) -> set[str]:
    """Return all names of settings, as `section.field`."""
    sections: dict[str, object] = vars(settings)
    fields: list[tuple[str, dict[str, object]]] = [(n, vars(s)) for n, s in sections.items()]
    return {f"{section}.{name}" for section, names in fields for name in names}


@pytest.mark.parametrize(("name", "value"), SETTINGS)
def test_settings_are_set_under_names_that_kopf_knows(name: str, value: object) -> None:
    section, field = name.split(".")
    assert name in names_in(kopf.OperatorSettings())
    assert getattr(getattr(applied(), section), field) == value


def test_nothing_is_set_that_kopf_does_not_know() -> None:
    assert names_in(kopf.OperatorSettings()) == names_in(applied())


def test_only_what_is_not_settled_is_watched() -> None:
    settings = applied()
    assert settings.watching.field_selectors[GROUP, ROLLBACKS] == UNSETTLED
    assert UNSETTLED == "status.settled!=true"
    assert isinstance(settings.networking.error_backoffs, EndlessBackoff)


def test_the_backoff_is_endless_bounded_and_starts_anew() -> None:
    backoff = EndlessBackoff()
    for _ in range(2):
        pauses = list(islice(backoff, 100))
        assert 0.05 <= pauses[0] <= 0.1
        assert 1.0 <= pauses[-1] <= 2.0
        assert max(pauses) <= 2.0


class Registered:
    """What we register with kopf, and what it was heard to say."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Json]] = []
        registry = kopf.OperatorRegistry()
        register(registry, lambda kind, raw: self.heard.append((kind, raw)))
        self.registry: Any = registry
        """What is in it, kopf tells nobody: it is looked up where the pinned version has it."""

    def activity(self, name: str) -> Callable[..., Awaitable[Any]]:
        handlers = self.registry._activities.get_all_handlers()
        found: list[Callable[..., Awaitable[Any]]]
        found = [handler.fn for handler in handlers if handler.fn.__name__ == name]
        (only,) = found
        return only


EVENTS = [
    pytest.param("ADDED", "ADDED", id="an event"),
    pytest.param(None, "LISTED", id="from the first list"),
]


@pytest.mark.parametrize(("kind", "heard"), EVENTS)
async def test_an_event_is_passed_on_and_answered_with_nothing(
    kind: str | None, heard: str
) -> None:
    """A handler that returns something makes kopf write it to the resource."""
    stage = Registered()
    (handler,) = stage.registry._watching.get_all_handlers()
    raw = {"metadata": {"name": "x"}}
    assert await handler.fn(event={"type": kind, "object": raw}, patch={}, memo={}) is None
    assert stage.heard == [(heard, raw)]


def test_nothing_is_registered_that_keeps_state_on_the_resource() -> None:
    registry = Registered().registry
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()
    assert not registry._indexing.get_all_handlers()


async def test_the_settings_are_applied_at_the_start() -> None:
    settings = kopf.OperatorSettings()
    await Registered().activity("configure")(settings=settings)
    assert settings.posting.enabled is False


def logs_in(monkeypatch: pytest.MonkeyPatch, found: kopf.ConnectionInfo | None) -> None:
    def login(**_: object) -> kopf.ConnectionInfo | None:
        return found

    monkeypatch.setattr(kopf, "login_via_client", login)


@in_fast_time
async def test_a_login_ends_and_too_many_are_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    logs_in(monkeypatch, kopf.ConnectionInfo(server="https://api"))
    login = Registered().activity("login")
    began = elapsed()
    found = [await login(logger=None, settings=None) for _ in range(LOGINS_A_MINUTE)]
    assert elapsed() - began < 1
    soon = datetime.now(UTC) + timedelta(minutes=29)
    assert all(one.expiration > soon for one in found)
    await login(logger=None, settings=None)
    assert elapsed() - began >= 2


@in_fast_time
async def test_no_credentials_are_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    logs_in(monkeypatch, None)
    assert await Registered().activity("login")(logger=None, settings=None) is None


class StandIn:
    """Stands in for kopf.operator: dies as scripted, then runs until it is cancelled."""

    def __init__(self, *deaths: Exception) -> None:
        self.deaths, self.threads, self.given = list(deaths), list[threading.Thread](), list[Any]()
        self.cancelled = 0

    async def __call__(self, **given: Any) -> None:
        self.threads.append(threading.current_thread())
        self.given.append(given)
        if self.deaths:
            raise self.deaths.pop(0)
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled += 1


def unheard(_: str, __: Json) -> None:
    pass


async def always() -> bool:
    return True


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110  # another thread cannot tell
            await asyncio.sleep(0.005)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_kopf_runs_in_a_thread_and_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = StandIn(RuntimeError("a crash"))
    monkeypatch.setattr(kopf, "operator", operator)
    starts: list[int] = []
    watch = Watch(unheard, on_start=lambda: starts.append(1))
    task = asyncio.create_task(watch.run(always))
    await until(lambda: len(operator.threads) == 2 and watch.is_alive)
    assert threading.main_thread() not in operator.threads
    assert operator.given[0]["standalone"] is True
    assert operator.given[0]["clusterwide"] is True
    assert len(starts) == 2
    watch.restart()
    await until(lambda: len(operator.threads) == 3)
    await stopped(task)
    await until(lambda: operator.cancelled == 2 and not watch.is_alive)


async def test_its_age_begins_anew_with_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = StandIn()
    monkeypatch.setattr(kopf, "operator", operator)
    watch = Watch(unheard)
    assert watch.age_seconds == 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = asyncio.create_task(watch.run(always))
    await until(lambda: watch.age_seconds > 0.05)
    watch.restart()
    await until(lambda: len(operator.threads) == 2 and watch.is_alive)
    assert watch.age_seconds <= loop.time() - began - 0.05
    await stopped(task)
    await until(lambda: not watch.is_alive)
    assert watch.age_seconds == 0


async def test_kopf_is_not_started_before_our_own_list_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operator = StandIn()
    monkeypatch.setattr(kopf, "operator", operator)
    asked: list[float] = []

    async def never() -> bool:
        asked.append(time.monotonic())
        return False

    watch = Watch(unheard)
    task = asyncio.create_task(watch.run(never))
    await until(lambda: bool(asked))
    assert (operator.threads, watch.is_alive) == ([], False)
    await stopped(task)


async def test_what_kopf_says_is_heard_in_our_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def operator(*, registry: Any, **_: Any) -> None:
        (handler,) = registry._watching.get_all_handlers()
        await handler.fn(event={"type": "ADDED", "object": {"kind": "x"}})
        await asyncio.Event().wait()

    heard: list[tuple[str, Json, threading.Thread]] = []
    monkeypatch.setattr(kopf, "operator", operator)
    watch = Watch(lambda kind, raw: heard.append((kind, raw, threading.current_thread())))
    task = asyncio.create_task(watch.run(always))
    await until(lambda: bool(heard))
    assert heard == [("ADDED", {"kind": "x"}, threading.main_thread())]
    await stopped(task)


async def test_a_watch_that_does_not_run_can_be_restarted_in_vain() -> None:
    watch = Watch(unheard)
    watch.restart()
    assert not watch.is_alive
