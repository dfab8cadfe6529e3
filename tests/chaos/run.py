"""
A run from its seed to its verdict.

    python -m tests.chaos.run

CHAOS_SEED is the seed, a new one unless given, and CHAOS_SECONDS for how long things go wrong, half
an hour unless given.  What it has shown is written into docs/chaos.json; if something was wrong,
beside the logs that are kept then.
"""

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pprint import pformat
from typing import Any, Final

from tests.chaos.checker import Record, Verdict, judge
from tests.chaos.plan import plan
from tests.chaos.play import Play
from tests.chaos.report import Done, report_of
from tests.chaos.scene import ROOT, Scene, a_scene
from tests.chaos.witness import record_of
from tests.sandbox.build import Say, say_on_stderr

HALF_AN_HOUR: Final = 1800.0
REPORT: Final = ROOT / "docs" / "chaos.json"


@dataclass
class Run:
    """A run that is over, on a scene that is still there."""

    scene: Scene
    play: Play
    seed: int
    seconds: float
    record: Record
    verdict: Verdict

    def look_again(self) -> Verdict:
        """Judge what is on record now."""
        return judge(record_of(self.scene, self.play.answers))

    def report(self) -> dict[str, Any]:
        """Return what it has shown; see `report_of`."""
        kubernetes = self.scene.sandbox.api.get("/version")["gitVersion"]
        versions = {
            "incident-rollback": version("incident-rollback"),
            "kopf": version("kopf"),
            "kubernetes": kubernetes,
            "python": platform.python_version(),
        }
        play = self.play
        done = Done(
            self.seed, self.seconds, versions, play.counts, play.ambushed, play.restarts_of_api
        )
        return report_of(done, self.record, self.verdict)

    def as_json(self) -> str:
        return f"{json.dumps(self.report(), indent=2)}\n"

    def keep(self) -> Path:
        """Write down what was seen, said and judged where it stays; return where."""
        kept = Path(tempfile.mkdtemp(prefix=f"incident-rollback-chaos-{self.seed}-"))
        (kept / "report.json").write_text(self.as_json(), encoding="utf-8")
        (kept / "record.txt").write_text(pformat(self.record, width=160), encoding="utf-8")
        shutil.copy(self.scene.sandbox.audit.path, kept)
        for process in self.scene.sandbox.processes.started:
            if process.name in self.scene.inhabitants:
                shutil.copy(process.log_path, kept)
        return kept


@contextmanager
def a_run(seed: int, seconds: float, say: Say = say_on_stderr) -> Generator[Run]:
    """Play, heal, wait until all is settled, and judge."""
    with a_scene(say) as scene:
        play = Play(scene, say)
        play.play(plan(seed, seconds))
        say("chaos: all is mended; waiting until every rollback is settled")
        play.heal()
        play.wait_settled()
        record = record_of(scene, play.answers)
        yield Run(scene, play, seed, seconds, record, judge(record))


def main() -> int:
    """Run it; 0 when nothing was wrong."""
    seed = int(os.environ.get("CHAOS_SEED") or time.time())
    seconds = float(os.environ.get("CHAOS_SECONDS") or HALF_AN_HOUR)
    say_on_stderr(f"chaos: CHAOS_SEED={seed} CHAOS_SECONDS={seconds:g}")
    with a_run(seed, seconds) as run:
        if not run.verdict.violations:
            REPORT.write_text(run.as_json(), encoding="utf-8")
            say_on_stderr(f"chaos: no violations; {REPORT.relative_to(ROOT)} says what was done")
            return 0
        for violation in run.verdict.violations:
            say_on_stderr(f"chaos: {violation}")
        say_on_stderr(f"chaos: again with CHAOS_SEED={seed}; the logs are in {run.keep()}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
