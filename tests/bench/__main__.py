"""
Run the benchmark, and write its samples and its page.

`BENCH_N` is the number of rollbacks one at a time; with less than a hundred it is a quick look,
which goes to `dist/benchmark` and leaves the committed page as it is.
"""

import compileall
import os
import sys
import time
from pathlib import Path
from typing import Final

from tests.bench import processes, requests, rulebook
from tests.bench.ground import NAMESPACE, ground
from tests.bench.machine import describe
from tests.bench.page import below, page_of
from tests.bench.peers import Peer, versions, webhook_program
from tests.bench.plan import FULL, Plan
from tests.bench.samples import Samples
from tests.e2e.stage import ROOT
from tests.sandbox.build import Say
from tests.sandbox.components import SOURCES
from tests.sandbox.errors import SandboxError
from tests.sandbox.sandbox import Sandbox

DOCS: Final = ROOT / "docs"
QUICK_LOOK: Final = ROOT / "dist" / "benchmark"


def main() -> int:
    """Run it; 0 when all was measured, whether budgets hold or not."""
    began = time.monotonic()

    def say(line: str) -> None:
        sys.stderr.write(f"bench: {time.monotonic() - began:5.0f} s  {line}\n")
        sys.stderr.flush()

    try:
        plan = Plan.of(read_n(os.environ.get("BENCH_N", "")))
        webhook_program()
        # As in the image: what is compiled at each start would count as ours.
        compileall.compile_dir(SOURCES, quiet=2)
        samples = measure(plan, say)
    except KeyboardInterrupt:
        sys.stderr.write("\nbench: stopped; nothing is left running, nothing was written\n")
        return 130
    except (SandboxError, ValueError) as error:
        sys.stderr.write(f"\nbench: {error}\n")
        return 1
    say(f"written: {write(samples, DOCS if plan.is_full else QUICK_LOOK)}")
    return 0


def read_n(given: str) -> int:
    """Return how many rollbacks are wanted.  Raises ValueError for what is no number of them."""
    if not given:
        return FULL
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"BENCH_N={given!r} is not a number of rollbacks")
    return int(given)


def measure(plan: Plan, say: Say) -> Samples:
    """Measure everything, on a sandbox of its own."""
    machine = describe({**versions(), **rulebook.versions()})
    samples = Samples(machine=machine, notes=rulebook.left_out(), n=plan.n)
    with Sandbox(say) as sandbox, ground(sandbox) as on:
        peer = Peer.start(sandbox, NAMESPACE, on.secret)
        say("installed")
        idle = requests.after_quiet(on, samples, plan, say)
        requests.OneAtATime(on, peer, samples, idle).run(plan, say)
        book = rulebook.Rulebook.start(sandbox, peer, on.secret)
        if book is not None:
            requests.by_rulebook(on, book, samples, plan, say)
            book.stop()
        requests.AtOnce(on, peer, samples).run(plan, say)
        processes.memory(on, samples, say)
        processes.start_and_end(on, samples, plan, say)
        processes.takeover(on, samples, plan, say)
        processes.away(on, samples, plan, say)
        processes.old_resources(on, samples, plan, say)
    return samples


def write(samples: Samples, directory: Path) -> Path:
    """Write samples and page into a directory, and return the page; what people wrote stays."""
    samples.write(directory / "benchmark" / "samples.json")
    page = directory / "benchmark.md"
    written = below(page.read_text(encoding="utf-8")) if page.exists() else ""
    page.write_text(page_of(samples, written), encoding="utf-8")
    return page.relative_to(ROOT)


if __name__ == "__main__":
    sys.exit(main())
