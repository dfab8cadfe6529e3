"""
The order in which revisions were live, rebuilt from their numbers.

A number is given each time a revision becomes current, so numbers order history; creation
times do not, for a ReplicaSet that is returned to is not created again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise

from incident_rollback.domain.workload import Revision, Workload


@dataclass(frozen=True, slots=True)
class Stint:
    """One time that a revision was current."""

    number: int
    revision: Revision

    @property
    def is_first(self) -> bool:
        """Its ReplicaSet was made for it; any later one is a return."""
        return self.number == self.revision.numbers[0]

    @property
    def key(self) -> str:
        """Equal for functionally equal revisions: a restart is no step."""
        return self.revision.key


@dataclass(frozen=True)
class History:
    """The stints that are still known, in order.  Pruned ReplicaSets leave gaps."""

    stints: tuple[Stint, ...]

    @classmethod
    def of(cls, workload: Workload) -> "History":
        """Rebuild the order from `revision` and `revision-history`."""
        stints = [Stint(n, revision) for revision in workload.revisions for n in revision.numbers]
        return cls(tuple(sorted(stints, key=lambda stint: stint.number)))

    @cached_property
    def marked_bad(self) -> frozenset[str]:
        """The keys of revisions that somebody rolled back from.  Gaps and ties mark nothing."""
        return frozenset(
            before.key
            for before, after in pairwise(self.stints)
            if self._is_step(before, after) and self._is_return(before, after)
        )

    def was_rolled_back_to(self, key: str) -> bool:
        """
        Say whether the step that made this, the live, template current was a rollback.

        Where the revision before it has been pruned, having been current earlier is enough:
        it was returned to, and what it was returned from is not known to be good.
        """
        run = self.last_run(key)
        if not run or run[0] is self.stints[0]:
            return False
        before = self.stints[self.stints.index(run[0]) - 1]
        if self._is_step(before, run[0]):
            return self._is_return(before, run[0])
        return run[0].number > self._lowest[run[0].key]

    def last_run(self, key: str) -> Sequence[Stint]:
        """
        Return the latest stints of a key in a row, oldest first; [] when it is not the last.

        A ReplicaSet that has two numbers was left in between, even if nothing is left of that.
        """
        run: list[Stint] = []
        for stint in reversed(self.stints):
            if stint.key != key or (run and stint.revision is run[0].revision):
                break
            run.insert(0, stint)
        return run

    def became_current_at(self, workload: Workload) -> datetime | None:
        """
        Say when the live template became current, a restart not counting; None: unknown.

        When its ReplicaSet was created or, if it was returned to, when f:template was written;
        with strategy Recreate the ReplicaSet comes only when the old pods are gone.
        """
        run = self.last_run(workload.key)
        if not run:
            return None
        first, written_at = run[0], workload.template_written_at
        if first.is_first and workload.strategy == "Recreate" and written_at is not None:
            return min(first.revision.created_at, written_at)
        if first.is_first:
            return first.revision.created_at
        return workload.template_written_at if len(run) == 1 else None

    def first_current_at(self, key: str) -> datetime:
        """Return when a functionally equal revision was current for the first time."""
        return min(stint.revision.created_at for stint in self.stints if stint.key == key)

    def left_at(self, key: str) -> datetime | None:
        """
        Say when a revision was last replaced by another; None: it was not, or it is unknown.

        Its successor was made for that, or returned to, and then nothing tells when.
        """
        for before, after in reversed([*pairwise(self.stints)]):
            if before.key == key:
                return after.revision.created_at if after.is_first else None
        return None

    def dwell(self, key: str) -> timedelta | None:
        """
        Say how long a revision was current before it was replaced; None: unknown.

        The creation of its successor's ReplicaSet minus its own, over its longest first stint;
        a restart does not end it.  What followed a gap was not its successor.
        """
        lengths: list[timedelta] = []
        since: datetime | None = None
        for before, after in pairwise(self.stints):
            if before.key != key:
                continue
            if since is None and before.is_first:
                since = before.revision.created_at
            if not self._is_step(before, after):
                since = None
            elif after.key != key:
                if since is not None and after.is_first:
                    lengths.append(after.revision.created_at - since)
                since = None
        return max(lengths, default=None)

    def _is_step(self, before: Stint, after: Stint) -> bool:
        """Nothing was current in between, and both numbers mean one revision each."""
        return after.number == before.number + 1 and not (
            {before.number, after.number} & self._shared_numbers
        )

    @cached_property
    def _shared_numbers(self) -> frozenset[int]:
        return frozenset(
            one.number
            for one, other in pairwise(self.stints)
            if one.number == other.number and one.key != other.key
        )

    def _is_return(self, before: Stint, after: Stint) -> bool:
        return before.key != after.key and self._lowest[after.key] < self._lowest[before.key]

    @cached_property
    def _lowest(self) -> dict[str, int]:
        """The lowest number known of each key; later stints do not change it."""
        return {stint.key: stint.number for stint in reversed(self.stints)}
