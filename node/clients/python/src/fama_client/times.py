"""Times as Fama writes them: RFC 3339 in UTC, with `Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{3})?Z")


def read_time(text: str) -> float | None:
    """Unix time in seconds; `None` unless the text is a real time of the years 2020 to 9999, with milliseconds or
    without a fraction, in UTC with `Z`."""
    if not _FORM.fullmatch(text):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.timestamp() if time.year >= 2020 else None


def write_time(seconds: float) -> str:
    """With milliseconds, as in an event's `created`."""
    time = datetime.fromtimestamp(seconds, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z"
