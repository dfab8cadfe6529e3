"""
What a run has measured: samples by name, and what it ran on; kept as JSON, as they were taken.

Numbers are rounded to a tenth, for more of them would only be noise in the repository.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Step:
    """One kind of request that a rollback made, up to its patch or after it, over all rollbacks."""

    who: str
    what: str
    """Verb and resource, as in the audit log."""
    is_after: bool
    """It came after the patch was sent."""
    times: float
    """So many of it in the median rollback."""
    begins_ms: float
    """After the webhook was sent; the median of the first of its kind, as the next."""
    lasts_ms: float
    """From its receipt by the API server to the end of the answer; of the longest of its kind."""


@dataclass
class Samples:
    """Everything a page is made of."""

    machine: dict[str, str] = field(default_factory=dict[str, str])
    notes: list[str] = field(default_factory=list[str])
    """What was left out, and why."""
    n: int = 0
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """By name, which ends in the unit where there is one: `ours: POST to patch, ms`."""
    steps: list[Step] = field(default_factory=list[Step])

    def add(self, name: str, *values: float) -> None:
        """Keep samples; those of one name belong together, in the order of their taking."""
        self.values.setdefault(name, []).extend(round(value, 1) for value in values)

    def of(self, name: str) -> Sequence[float]:
        """Return the samples of a name; empty when it was not measured."""
        return self.values.get(name, [])

    def write(self, path: Path) -> None:
        """Write them as JSON, a name a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        members = {
            "machine": _members(self.machine),
            "notes": _rows(self.notes),
            "n": json.dumps(self.n),
            "values": _members(self.values),
            "steps": _rows([asdict(step) for step in self.steps]),
        }
        lines = [f"  {json.dumps(key)}: {shown}" for key, shown in members.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` has written."""
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        steps = [Step(**step) for step in raw.pop("steps")]
        return cls(**raw, steps=steps)


def _members(values: Mapping[str, object]) -> str:
    rows = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return _wrapped("{", rows, "}")


def _rows(values: Sequence[object]) -> str:
    return _wrapped("[", [f"    {json.dumps(value)}" for value in values], "]")


def _wrapped(begin: str, rows: Iterable[str], end: str) -> str:
    return f"{begin}\n" + ",\n".join(rows) + f"\n  {end}"
