"""
Logging: one JSON object a line for machines, or one line of text for people.

What is logged was partly written by others.  No text of theirs can begin a line of its own, move
the cursor of a terminal, or turn the direction of the writing.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

from incident_rollback.telemetry.traces import with_trace

_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {
    "message",
    "asctime",
    "taskName",
}
_PLAIN: Final = re.compile(r"[^\s\"=]*")
STACK: Final = "  | "
"""In text, before each line of a traceback."""
_NOISY: Final = ("kopf", "aiohttp.access", "httpx", "httpcore", "urllib3", "asyncio")


class JsonFormatter(logging.Formatter):
    """ISO 8601 in UTC, level, logger, message, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
            **extras_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return one_line(json.dumps(line, default=str, ensure_ascii=False))


class TextFormatter(logging.Formatter):
    """The same for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback follows on lines that begin like no record does."""
        extras = "".join(
            f" {key}={_shown(value)}" for key, value in extras_of(record).items() if value != ""
        )
        at = datetime.fromtimestamp(record.created, UTC)
        line = f"{at:%H:%M:%S.%f}"[:-3] + f" {record.levelname:<7} {record.getMessage()}{extras}"
        stack = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([one_line(line), *(f"{STACK}{one_line(part)}" for part in stack)])


def one_line(text: str) -> str:
    """Return a text with what cannot be printed escaped as in JSON: in that it stays the same."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _shown(value: object) -> str:
    """Return a value as text; in quotes where it could be taken for more than one."""
    text = str(value)
    is_plain = not isinstance(value, str) or _PLAIN.fullmatch(text)
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def without_stack(record: logging.LogRecord) -> bool:
    """
    Leave kopf's stacks out, and keep its line; a filter that lets every record pass.

    It dies loudly of what is ordinary here, a CRD that is replaced, and is started again.
    """
    if record.name.partition(".")[0] == "kopf":
        record.exc_info = record.exc_text = None
    return True


def extras_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what was given as `extra`."""
    return {
        k: v for k, v in record.__dict__.items() if k not in _STANDARD and not k.startswith("_")
    }


def set_up(style: Literal["json", "text"], level: str) -> None:
    """Log to stderr; libraries that talk on each call are heard from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(without_stack)
    handler.addFilter(with_trace)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It says at each start that it leaves the signals alone; that is what its thread is for.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
