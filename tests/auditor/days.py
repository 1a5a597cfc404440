"""UTC dates and times as the texts write them, in integer arithmetic."""

import datetime
import re

from .bounds import DAY_MILLIS, YEAR_MAX, YEAR_MIN
from .fault import Fault, require

_DAY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{3})Z")
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_FIRST = datetime.date(YEAR_MIN, 1, 1).toordinal() - _EPOCH
_LAST = datetime.date(YEAR_MAX, 12, 31).toordinal() - _EPOCH


def day_of(time):
    """The day (since 1970-01-01) of a time in milliseconds."""
    return time // DAY_MILLIS


def parse_day(text):
    match = _DAY.fullmatch(text)
    require(match, "bad_value", "not a day")
    try:
        day = datetime.date(*map(int, match.groups())).toordinal() - _EPOCH
    except ValueError:
        raise Fault("bad_value", "no such day") from None
    require(_FIRST <= day <= _LAST, "bad_value", "a year out of range")
    return day


def show_day(day):
    require(_FIRST <= day <= _LAST, "bad_value", "a day out of range")
    return datetime.date.fromordinal(day + _EPOCH).isoformat()


def parse_time(text):
    match = _TIME.fullmatch(text)
    require(match, "bad_value", "not a time")
    day = parse_day(match[1])
    hour, minute, second, millis = map(int, match.groups()[1:])
    require(hour <= 23 and minute <= 59 and second <= 59, "bad_value", "no such time of day")
    return day * DAY_MILLIS + ((hour * 60 + minute) * 60 + second) * 1000 + millis


def show_time(time):
    day, rest = divmod(time, DAY_MILLIS)
    second, millis = divmod(rest, 1000)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{show_day(day)}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
