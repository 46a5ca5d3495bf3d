"""When a certificate begins and ends: as the standard library reads it."""

from __future__ import annotations

import ssl
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.validity import certificate_seconds


@given(st.integers(0, 253_402_300_799))
def test_a_time_is_what_the_standard_library_takes_it_for(seconds: int) -> None:
    """Of any certificate until the year 9999, the last that fits (RFC 5280, section 4.1.2.5)."""
    at = time.gmtime(seconds)
    text = (
        f"{time.strftime('%b', at)} {at.tm_mday:2} {time.strftime('%H:%M:%S', at)} {at.tm_year} GMT"
    )
    assert certificate_seconds(text) == ssl.cert_time_to_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Jan  5 09:34:43 2018",
        "Jan  5 09:34:43 2018 UTC",
        "Foo  5 09:34:43 2018 GMT",
        "Jan 32 09:34:43 2018 GMT",
        "Jan  5 09:34 2018 GMT",
        "Jan  5 25:34:43 2018 GMT",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """Rather than guessed: trust ends at that moment."""
    with pytest.raises(ValueError, match=r"."):
        certificate_seconds(text)
