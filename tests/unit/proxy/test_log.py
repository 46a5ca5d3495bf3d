"""Logs: levels that change while it runs, two forms, and a reader who may be gone."""

from __future__ import annotations

import io
import json
import os
from datetime import datetime

import pytest

from proxy.telemetry.log import LEVELS, Logger, make_logger, parse_level


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _lose() -> None:
    raise KeyError("lost")


def _say_all(log: Logger) -> None:
    log.debug("a", n=1)
    log.info("b", n=2)
    log.warning("c", n=3)
    log.error("d", n=4)


@pytest.mark.parametrize(
    ("level", "said"),
    [("debug", "abcd"), ("info", "bcd"), ("warn", "cd"), ("error", "d"), ("off", "")],
)
def test_a_level_lets_its_own_and_graver_events_through(level: str, said: str) -> None:
    """The same whether it was the level from the start or became it."""
    out = io.StringIO()
    log = make_logger("debug", "json", out)
    log.set_level(level)
    assert log.level == level
    _say_all(log)
    _say_all(make_logger(level, "json", out))
    assert "".join(json.loads(line)["event"] for line in out.getvalue().splitlines()) == said * 2


@pytest.mark.parametrize("form", ["json", "pretty"])
@pytest.mark.parametrize("is_unbuffered", [False, True])
def test_a_line_is_written_in_one_piece(form: str, *, is_unbuffered: bool) -> None:
    """Another process's line never stands inside, whatever PYTHONUNBUFFERED says."""
    far, near = os.pipe2(os.O_DIRECT)
    with (
        os.fdopen(far, "rb", buffering=0) as pieces,
        os.fdopen(near, "wb", buffering=0 if is_unbuffered else -1) as raw,
        io.TextIOWrapper(raw, line_buffering=True, write_through=is_unbuffered) as out,
    ):
        log = make_logger("info", form, out)
        for number in range(2):
            log.info("said", number=number, text="x" * 200)
            # A pipe of packets: one reading is one writing (pipe(2), O_DIRECT).
            piece = pieces.read(4096)
            assert piece.endswith(b"\n")
            assert piece.count(b"\n") == 1
            assert str(number).encode() in piece


def test_a_json_line_has_time_level_and_fields() -> None:
    """One object a line; the time is UTC."""
    out = io.StringIO()
    make_logger("info", "json", out).warning("port taken", port=4143, who="a\nb")
    (line,) = out.getvalue().splitlines()
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("timestamp")).utcoffset() is not None
    assert found == {"event": "port taken", "level": "warning", "port": 4143, "who": "a\nb"}


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_an_exception_comes_with_its_traceback(form: str) -> None:
    """Where it was raised is what one looks for."""
    out = io.StringIO()
    log = make_logger("info", form, out)
    try:
        _lose()
    except KeyError:
        log.exception("broke", code="internal")
    assert "test_log.py" in out.getvalue()
    assert "KeyError" in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1 or form == "pretty"


@pytest.mark.parametrize(
    ("stream", "form", "colors", "is_json", "colorful"),
    [
        (io.StringIO, "auto", None, True, False),
        (Terminal, "auto", None, False, True),
        (Terminal, "json", None, True, False),
        (Terminal, "pretty", False, False, False),
        (io.StringIO, "pretty", None, False, False),
        (io.StringIO, "pretty", True, False, True),
        (io.StringIO, "auto", True, True, False),
    ],
)
def test_a_person_at_a_terminal_gets_another_form(
    stream: type[io.StringIO], form: str, colors: bool | None, is_json: bool, colorful: bool
) -> None:
    """A log that is collected is JSON without anybody saying so."""
    out = stream()
    make_logger("info", form, out, colors=colors).info("hello", n=1)
    assert out.getvalue().startswith("{") == is_json
    assert ("\x1b[" in out.getvalue()) == colorful


def test_traffic_goes_on_when_nobody_reads_the_log() -> None:
    """A closed pipe is no reason to end a connection."""
    reading, writing = os.pipe()
    os.close(reading)
    out = os.fdopen(writing, "w", buffering=1)
    log = make_logger("debug", "json", out)
    _say_all(log)
    try:
        _lose()
    except KeyError:
        log.exception("broke")
    with pytest.raises(BrokenPipeError):
        out.close()


@pytest.mark.parametrize(
    ("text", "level"),
    [
        *((level, level) for level in LEVELS),
        ("WARN", "warn"),
        ("trace", "debug"),
        ("warn,linkerd=info,hickory=error", "info"),
        ("warn,linkerd=info,hickory=error,[{headers}]=off,[{request}]=off", "info"),
        ("linkerd2_proxy=debug,warn", "debug"),
        ("warn,hickory=debug", "warn"),
    ],
)
def test_a_level_is_read_as_a_word_or_as_linkerd_writes_it(text: str, level: str) -> None:
    """Of a filter, what it says of the proxy itself."""
    assert parse_level(text) == level


@pytest.mark.parametrize("text", ["", "loud", "info,", "linkerd=loud", "hickory=error", "=", "a=b"])
def test_a_level_that_says_nothing_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ValueError, match=r"no log level|says nothing"):
        parse_level(text)
