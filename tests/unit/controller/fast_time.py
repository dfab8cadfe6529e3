"""A loop in which waiting takes no time: when nothing can run, its clock jumps to what is next."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _Jumping(selectors.SelectSelector):
    """Never sleeps; remembers by how much the clock is ahead, in seconds."""

    ahead = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever come")
        ready = super().select(0)
        if not ready:
            self.ahead += max(0.0, timeout)
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """The loop; its time runs with the real one, and jumps."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return super().time() + self._jumping.ahead


class SteppedLoop(FastLoop):
    """Its time only jumps, and does not run: a test goes the same way each time."""

    def time(self) -> float:
        return self._jumping.ahead


def in_fast_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test in a loop of its own, in which waiting takes no time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def let_run(rounds: int = 30) -> None:
    """Let everything run that can run now."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def elapsed() -> float:
    """Return the time of the loop, in seconds."""
    return asyncio.get_running_loop().time()
