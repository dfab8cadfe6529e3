from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incident_rollback.clients.clock import DRIFT, ApiClock

START = datetime(2026, 11, 23, 2, 14, tzinfo=UTC)


@dataclass
class TwoClocks:
    """Ours, and the API server's, which is `ahead` of it."""

    ahead: float = 0.0
    at: float = 1000.0
    clock: ApiClock = field(init=False)

    def __post_init__(self) -> None:
        start = START + timedelta(seconds=self.at - 1000.0)
        self.clock = ApiClock(wall=lambda: start, monotonic=lambda: self.at)

    @property
    def truth(self) -> datetime:
        return START + timedelta(seconds=self.at - 1000.0 + self.ahead)

    @property
    def error(self) -> float:
        return abs((self.clock.now() - self.truth).total_seconds())

    def ask(self, after: float = 0.0, there: float = 0.01, back: float = 0.01) -> None:
        """Make a request whose answer is dated between its way there and its way back."""
        self.at += after
        sent = self.at
        self.at += there
        date = self.truth.replace(microsecond=0)
        self.at += back
        self.clock.saw(date, sent, self.at)


def test_before_the_first_answer_it_is_our_own_time() -> None:
    clocks = TwoClocks()
    clocks.at += 5
    assert clocks.clock.now() == START + timedelta(seconds=5)


def test_it_goes_on_with_the_monotonic_clock_and_reads_the_other_one_once() -> None:
    walls = iter([START])
    clock = ApiClock(wall=lambda: next(walls), monotonic=lambda: 7.0)
    assert [clock.now(), clock.now()] == [START, START]


def test_a_clock_that_agrees_is_left_alone() -> None:
    clocks = TwoClocks()
    for _ in range(50):
        clocks.ask(after=0.37)
        assert clocks.error == 0


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, 0.9, -0.9, 86_400.5])
def test_one_answer_brings_it_within_a_second(ahead: float) -> None:
    clocks = TwoClocks(ahead)
    clocks.ask()
    assert clocks.error < 1.02


@pytest.mark.parametrize("ahead", [3600.25, -3600.75, 0.9])
def test_many_answers_bring_it_close(ahead: float) -> None:
    clocks = TwoClocks(ahead)
    for _ in range(200):
        clocks.ask(after=0.137)
    assert clocks.error < 0.1


def test_a_slow_answer_loosens_nothing() -> None:
    clocks = TwoClocks(3600.25)
    for _ in range(200):
        clocks.ask(after=0.137)
    clocks.ask(there=2.0, back=3.0)
    assert clocks.error < 0.1


def test_an_answer_that_bounds_one_side_keeps_what_is_known_of_the_other() -> None:
    clocks = TwoClocks(5.0, at=1000.1)
    clocks.ask(there=0, back=0)
    assert 0.3 < clocks.error < 0.5
    clocks.ask(after=0.8, there=0, back=10)
    assert clocks.error < 0.02


def test_a_server_whose_clock_is_stepped_is_followed() -> None:
    clocks = TwoClocks()
    clocks.ask()
    clocks.ahead = -30.0
    clocks.ask(after=1)
    assert clocks.error < 1.1


def test_drift_is_followed() -> None:
    clocks = TwoClocks()
    for _ in range(500):
        clocks.ahead += 25 * DRIFT / 2
        clocks.ask(after=25)
    assert clocks.error < 1


@given(
    ahead=st.floats(-1e6, 1e6),
    ways=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2), st.floats(0, 2)), min_size=1),
)
def test_it_is_never_further_off_than_a_second_and_the_way_of_the_first_answer(
    ahead: float, ways: list[tuple[float, float, float]]
) -> None:
    clocks = TwoClocks(ahead)
    for after, there, back in ways:
        clocks.ask(after, there, back)
        assert clocks.error <= 1.01 + ways[0][1] + ways[0][2] + DRIFT * (clocks.at - 1000.0)


def test_answers_out_of_order_do_no_harm() -> None:
    clocks = TwoClocks(5.0)
    clocks.ask(after=1)
    date, sent, received = clocks.truth.replace(microsecond=0), clocks.at, clocks.at
    clocks.ask(after=1)
    clocks.clock.saw(date, sent, received)
    assert clocks.error < 1.02
