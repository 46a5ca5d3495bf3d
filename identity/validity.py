"""When a certificate begins and ends, read from how OpenSSL writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1
    )
}


def certificate_seconds(text: str) -> float:
    """Return ``Jan  5 09:34:43 2018 GMT`` in seconds since the epoch.

    The same as ``ssl.cert_time_to_seconds``, without loading what reads dates of any form: it is
    asked at every start, and of every new peer. Raises ValueError for anything else.
    """
    words = text.split()
    if len(words) != 5 or words[0] not in _MONTHS or words[4] != "GMT":
        raise ValueError(f"{text[:40]!r} is no time of a certificate")
    month, day, clock, year, _ = words
    hour, minute, second = (int(part) for part in clock.split(":"))
    return datetime(
        int(year), _MONTHS[month], int(day), hour, minute, second, tzinfo=UTC
    ).timestamp()
