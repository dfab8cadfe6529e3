"""Who may take the Lease, what is written into it, and how one stands; times are played."""

from dataclasses import replace
from datetime import timedelta

import pytest

from incident_rollback.domain.lease import (
    CUT_OFF_SECONDS,
    LEASE_SECONDS,
    LONGEST_LEASE_SECONDS,
    TRUST_SECONDS,
    Lease,
    Sight,
    Standing,
    absence_of,
    attendance_of,
    held_by,
    is_takeable,
    look_again,
    released,
    standing_of,
)
from tests.builders import HOME, NOW

ME = "controller-a_1f"
OTHER = "controller-b_2e"
EARLIER = NOW - timedelta(minutes=5)
THEIRS = Lease(OTHER, LEASE_SECONDS, EARLIER, EARLIER, 6, "100")
SEEN_AT = 1000.0

TAKES = [
    pytest.param(None, 0.0, True, id="there is none"),
    pytest.param(replace(THEIRS, holder=""), 0.0, True, id="it was released"),
    pytest.param(replace(THEIRS, holder=ME), 0.0, True, id="it is ours: an answer was lost"),
    pytest.param(THEIRS, 0.0, False, id="it was just seen: how old it is nobody knows"),
    pytest.param(THEIRS, 9.9, False, id="it was renewed within its length"),
    pytest.param(THEIRS, 10.0, True, id="it was not renewed for its length"),
    pytest.param(replace(THEIRS, seconds=15), 12.0, False, id="its own length counts, not ours"),
    pytest.param(replace(THEIRS, seconds=3), 3.0, True, id="also a shorter one"),
    pytest.param(replace(THEIRS, seconds=86_400), 59.9, False, id="a day long, within a minute"),
    pytest.param(replace(THEIRS, seconds=86_400), 60.0, True, id="a day long, after a minute"),
    pytest.param(
        replace(THEIRS, renewed_at=NOW + timedelta(days=1)), 10.0, True, id="no clock is compared"
    ),
]


@pytest.mark.parametrize(("lease", "waited", "takes"), TAKES)
def test_when_the_lease_may_be_taken(lease: Lease | None, waited: float, takes: bool) -> None:
    assert is_takeable(Sight(lease, SEEN_AT), ME, SEEN_AT + waited) is takes


LOOKS = [
    pytest.param(None, THEIRS, 7.0, id="the first look"),
    pytest.param(Sight(THEIRS, 1.0), THEIRS, 1.0, id="the same again: since the first look"),
    pytest.param(Sight(THEIRS, 1.0), replace(THEIRS, version="101"), 7.0, id="renewed"),
    pytest.param(Sight(THEIRS, 1.0), None, 7.0, id="gone"),
    pytest.param(Sight(None, 1.0), None, 1.0, id="still none"),
]


@pytest.mark.parametrize(("before", "lease", "since"), LOOKS)
def test_since_when_it_reads_like_that(
    before: Sight | None, lease: Lease | None, since: float
) -> None:
    assert look_again(before, lease, 7.0) == Sight(lease, since)


MINE = Lease(ME, LEASE_SECONDS, EARLIER, EARLIER, 6, "100")
WRITES = [
    pytest.param(None, Lease(ME, LEASE_SECONDS, NOW, NOW, 0, ""), id="the first one ever"),
    pytest.param(
        THEIRS, Lease(ME, LEASE_SECONDS, NOW, NOW, 7, "100"), id="from another: it changes hands"
    ),
    pytest.param(
        replace(THEIRS, holder=""),
        Lease(ME, LEASE_SECONDS, NOW, NOW, 7, "100"),
        id="from nobody: it changes hands too",
    ),
    pytest.param(MINE, replace(MINE, renewed_at=NOW), id="renewed: since when it is ours stays"),
    pytest.param(
        replace(MINE, seconds=15), replace(MINE, renewed_at=NOW), id="renewed: with our length"
    ),
]


@pytest.mark.parametrize(("before", "after"), WRITES)
def test_what_is_written_by_who_takes_or_renews(before: Lease | None, after: Lease) -> None:
    assert held_by(ME, before, NOW) == after


def test_a_release_says_when_and_changes_no_hands() -> None:
    assert released(MINE, NOW) == replace(MINE, holder="", renewed_at=NOW)


STANDINGS = [
    pytest.param(12.0, 0.0, 0, Standing.LEADS, id="a renewal is relied on"),
    pytest.param(12.0, 1.9, 9, Standing.LEADS, id="whatever failed since"),
    pytest.param(12.0, 2.0, 1, Standing.STANDS_BY, id="and not for a moment longer"),
    pytest.param(0.0, 9.9, 9, Standing.STANDS_BY, id="no answer, not for long"),
    pytest.param(0.0, 10.0, 3, Standing.CUT_OFF, id="no answer for ten seconds"),
    pytest.param(0.0, 3600.0, 0, Standing.STANDS_BY, id="asleep for an hour is not cut off"),
    pytest.param(0.0, 3600.0, 2, Standing.STANDS_BY, id="nor after two failures on waking"),
]


@pytest.mark.parametrize(("leads_until", "passed", "failures", "standing"), STANDINGS)
def test_how_a_process_stands(
    leads_until: float, passed: float, failures: int, standing: Standing
) -> None:
    answered_at = 10.0
    assert (
        standing_of(
            answered_at + passed,
            leads_until=leads_until,
            answered_at=answered_at,
            failures=failures,
        )
        is standing
    )


def test_who_leads_has_let_go_before_another_may_take_it() -> None:
    assert TRUST_SECONDS < LEASE_SECONDS <= CUT_OFF_SECONDS < LONGEST_LEASE_SECONDS


@pytest.mark.parametrize("standing", list(Standing))
def test_all_but_who_stands_by_take_turns(standing: Standing) -> None:
    assert standing.takes_turns is (standing is not Standing.STANDS_BY)


def renewed(ago: timedelta) -> Lease:
    return replace(THEIRS, renewed_at=NOW - ago)


UNSEEN = (
    "no controller has been seen for {}: kubectl get pods -n incident-rollback; the request is kept"
)
ABSENCES = [
    pytest.param(None, "", id="no Lease tells nothing"),
    pytest.param(replace(THEIRS, renewed_at=None), "", id="nor one that was never renewed"),
    pytest.param(renewed(timedelta(0)), "", id="just renewed"),
    pytest.param(renewed(timedelta(seconds=60)), "", id="a minute is no absence"),
    pytest.param(renewed(timedelta(seconds=61)), UNSEEN.format("1 min 1 s"), id="over a minute"),
    pytest.param(renewed(timedelta(days=3, hours=2)), UNSEEN.format("3 d 2 h"), id="for days"),
    pytest.param(renewed(timedelta(seconds=-90)), "", id="renewed in the future"),
    pytest.param(
        replace(renewed(timedelta(minutes=3)), holder=""),
        UNSEEN.format("3 min"),
        id="let go of, and nobody took it",
    ),
]


@pytest.mark.parametrize(("lease", "said"), ABSENCES)
def test_whether_a_controller_is_missed(lease: Lease | None, said: str) -> None:
    assert absence_of(lease, NOW, HOME) == said


LOOK = "kubectl get pods -n incident-rollback"
ATTENDANCES = [
    pytest.param(renewed(timedelta(0)), True, f"leads: {OTHER}", id="just renewed"),
    pytest.param(
        renewed(timedelta(seconds=60)), True, f"leads: {OTHER}", id="a minute is no absence"
    ),
    pytest.param(
        renewed(timedelta(seconds=61)),
        False,
        f"no controller has been seen since 2026-11-23 02:12:59 UTC (1 min 1 s): {LOOK}",
        id="over a minute",
    ),
    pytest.param(
        replace(renewed(timedelta(seconds=20)), holder=""),
        False,
        f"no controller leads since the last one let go 20 s ago: {LOOK}",
        id="let go of, and nobody took it",
    ),
    pytest.param(None, False, f"no controller has ever led here: {LOOK}", id="no Lease"),
    pytest.param(
        replace(THEIRS, renewed_at=None),
        False,
        f"no controller has ever led here: {LOOK}",
        id="one that was never renewed",
    ),
    pytest.param(
        replace(renewed(timedelta(0)), holder="<b>pod\n@here"),
        True,
        "leads: &lt;b&gt;pod @\u200bhere",
        id="whatever the holder calls itself",
    ),
]


@pytest.mark.parametrize(("lease", "is_there", "said"), ATTENDANCES)
def test_whether_a_controller_is_there(lease: Lease | None, is_there: bool, said: str) -> None:
    assert attendance_of(lease, NOW, HOME) == (is_there, said)
