"""What several workers' answers come to."""

from __future__ import annotations

import json

import pytest

from proxy.admin.answer import Answer, say, show
from proxy.admin.joined import (
    DIFFER,
    Answers,
    join_change,
    join_connections,
    join_live,
    join_metrics,
    join_ready,
    join_same,
)
from proxy.admin.pages import MAX_SHOWN

READY = say(200, "ready")
GONE = {3: "it is not running"}
SILENT = {3: "it has not answered within 0.8 s"}


def told(*answers: Answer, gone: dict[int, str] | None = None) -> Answers:
    """Return the answers of workers 1, 2 and so on."""
    return Answers(dict(enumerate(answers, 1)), gone or {}, {})


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (told(READY, READY), say(200, "ready")),
        (told(say(200, "ready\nwarning: a"), say(200, "ready\nwarning: b\nwarning: a")), None),
        (told(READY, say(503, "not ready: why")), say(503, "not ready: worker 2: why")),
        (told(*[say(503, "not ready: why")] * 2), say(503, "not ready: why")),
        (
            told(READY, say(503, "not ready: why"), gone={3: "it is gone"}),
            say(503, "not ready: worker 2: why; worker 3: it is gone"),
        ),
        (Answers({1: READY}, {}, SILENT), say(503, f"not ready: worker 3: {SILENT[3]}")),
    ],
)
def test_ready_is_when_all_are(answers: Answers, said: Answer | None) -> None:
    """Who is not is named; warnings are told once."""
    assert join_ready(answers) == (said or say(200, "ready\nwarning: a\nwarning: b"))


def test_live_is_while_nobody_hangs() -> None:
    """Whoever is not running is started again; who hangs is not."""
    assert join_live(told(say(200, "live"), gone=GONE))[0] == 200
    assert join_live(Answers({1: say(200, "live")}, {}, SILENT))[0] == 503


async def test_half_a_sum_is_none() -> None:
    """Whoever does not answer may yet; it would look like a fall and a rise."""
    one = (200, "", b"# HELP a b\n# TYPE a counter\na 1\n")
    assert (await join_metrics(told(one, one, gone=GONE)))[2].endswith(b"a 2\n")
    assert (await join_metrics(Answers({1: one}, {}, SILENT)))[0] == 503
    assert join_same(Answers({1: one}, {}, SILENT))[0] == 503
    assert join_connections(Answers({1: show({})}, {}, SILENT))[0] == 503


def test_all_connections_are_one_list_within_its_bound() -> None:
    """Oldest first, each with its worker."""
    each = [{"age_s": number} for number in range(MAX_SHOWN)]
    page = show({"open": 900, "shown": MAX_SHOWN, "connections": each})
    other = show({"open": 1, "shown": 1, "connections": [{"age_s": 1000}]})
    found = json.loads(join_connections(told(page, other))[2])
    assert (found["open"], found["shown"], len(found["connections"])) == (901, 500, 500)
    assert found["connections"][0] == {"age_s": 1000, "worker": 2}
    assert found["connections"][-1] == {"age_s": 1, "worker": 1}


def test_where_workers_differ_it_is_said() -> None:
    """They do for a moment; a person sees what each says."""
    assert join_same(told(READY, READY)) == READY
    status, _, body = join_same(told(say(200, "allowed"), say(200, "denied")))
    assert status == 409
    assert body.decode() == f"{DIFFER}\nworker 1:\nallowed\n\nworker 2:\ndenied\n\n"


def test_a_change_is_made_by_all() -> None:
    """Who has not made it is named."""
    done = (204, "", b"")
    assert join_change(told(done, done, gone=GONE)) == done
    assert join_change(told(done, say(400, "no")))[0] == 400
    assert join_change(Answers({1: done}, {}, SILENT))[0] == 503
