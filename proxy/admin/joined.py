"""The admin pages of several workers, as one sidecar's: whoever is asked asks the others.

What the answers come to is decided here, by page. A worker that is not running makes the sidecar
unready and is left out elsewhere; one that does not answer leaves a page without an answer, for
half a sum would look like a fall.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain
from typing import Final, final

from core.errors import ConnectRefusedError, UnreachableError
from core.record import dataclass
from policy.model import Client
from proxy.admin.answer import Answer, say, show
from proxy.admin.kept import METRICS, KeptMetrics, read_kept
from proxy.admin.pages import MAX_SHOWN, AdminPages
from proxy.crew import Crew
from proxy.net.sibling import Question, ask_sibling
from proxy.telemetry.exposition import CONTENT_TYPE
from proxy.telemetry.total import join_pages

ANSWER_S: Final = 0.8
"""How long a worker may take: the kubelet waits a second for a probe."""
LARGE_ANSWER_S: Final = 4.0
"""The same for a large page: others have their turn while it is made; a scraper waits 10 s."""
MAX_LARGE: Final = 4
"""Answers put together at once from pages that may have several MiB."""
DIFFER: Final = "the workers differ, as they do for a moment while something changes"
_FIRST_WRONG: Final = 400


@final
@dataclass(frozen=True, slots=True)
class Answers:
    """What the workers have answered."""

    told: Mapping[int, Answer]
    """By number, in order."""
    gone: Mapping[int, str]
    """Workers that are not running, and why."""
    silent: Mapping[int, str]
    """Workers that run and have not answered, and why."""
    kept: Sequence[bytes] = ()
    """What those that are not running had told of their metrics."""

    def missing(self) -> str:
        """Return who has not answered, in words; empty: all have."""
        missing = sorted({**self.gone, **self.silent}.items())
        return "; ".join(f"worker {number}: {reason}" for number, reason in missing)


Join = Callable[[Answers], Answer | Awaitable[Answer]]


def join_live(answers: Answers) -> Answer:
    """Live: no worker hangs. One that is not running will be started again."""
    if answers.silent:
        return say(503, f"not live: {answers.missing()}")
    return say(200, "live")


def join_ready(answers: Answers) -> Answer:
    """Ready when every worker is; of the others each is named."""
    unready = {
        number: body.decode().strip().removeprefix("not ready: ")
        for number, (status, _, body) in answers.told.items()
        if status != 200
    }
    if len(set(unready.values())) == 1 and len(unready) == len(answers.told):
        # All say the same, as while draining: there is no need to say who.
        reasons = [next(iter(unready.values()))]
    else:
        reasons = [f"worker {number}: {reason}" for number, reason in unready.items()]
    missing = answers.missing()
    reasons += [missing] if missing else []
    if reasons:
        return say(503, f"not ready: {'; '.join(reasons)}")
    bodies = (body.decode().splitlines() for _, _, body in answers.told.values())
    return say(200, "\n".join(dict.fromkeys(chain.from_iterable(bodies))))


async def join_metrics(answers: Answers) -> Answer:
    """The pages' sum, with what was counted by workers that are gone; of all others, or none."""
    if answers.silent:
        return say(503, answers.missing())
    pages = [body for _, _, body in answers.told.values()]
    return 200, CONTENT_TYPE, await join_pages(pages, answers.kept)


def join_connections(answers: Answers) -> Answer:
    """All workers' connections, oldest first, each with who has it."""
    if answers.silent:
        return say(503, answers.missing())
    pages = {number: json.loads(body) for number, (_, _, body) in answers.told.items()}
    found = [
        {**each, "worker": number} for number, page in pages.items() for each in page["connections"]
    ]
    oldest = sorted(found, key=lambda each: float(each["age_s"]), reverse=True)[:MAX_SHOWN]
    return show(
        {
            "open": sum(page["open"] for page in pages.values()),
            "shown": len(oldest),
            "connections": oldest,
        }
    )


def join_same(answers: Answers) -> Answer:
    """What all say; where they differ, what each says."""
    if answers.silent:
        return say(503, answers.missing())
    told = list(answers.told.values())
    if all(each == told[0] for each in told):
        return told[0]
    parts = [f"worker {number}:\n{body.decode()}" for number, (_, _, body) in answers.told.items()]
    return say(409, "\n".join((DIFFER, *parts)))


def join_change(answers: Answers) -> Answer:
    """Done when all have done it. A worker that is not running begins with the settings."""
    wrong = next((each for each in answers.told.values() if each[0] >= _FIRST_WRONG), None)
    if wrong is not None:
        return wrong
    if answers.silent:
        return say(503, f"done, but for {answers.missing()}")
    return next(iter(answers.told.values()))


_JOINS: Final[Mapping[tuple[str, str], Join]] = {
    ("GET", "/live"): join_live,
    ("GET", "/ready"): join_ready,
    ("GET", METRICS): join_metrics,
    ("GET", "/connections"): join_connections,
    ("GET", "/policy"): join_same,
    ("GET", "/explain"): join_same,
    ("GET", "/proxy-log-level"): join_same,
    ("PUT", "/proxy-log-level"): join_change,
}
"""What others are asked about. The rest one worker answers for all."""
_LARGE: Final = (METRICS, "/connections", "/policy")


@final
class JoinedPages:
    """The pages of one sidecar that has several workers."""

    def __init__(self, pages: AdminPages, metrics: KeptMetrics, crew: Crew) -> None:
        self._pages = pages
        self._metrics = metrics
        self._crew = crew
        self._large = asyncio.Semaphore(MAX_LARGE)

    async def answer(
        self, method: str, path: str, query: str, body: bytes, client: Client
    ) -> Answer:
        """Return status, content type and body."""
        # One that waits for its turn is not made before that: it would be memory, and out of date.
        async with self._large if path in _LARGE else contextlib.nullcontext():
            own = await self._pages.answer(method, path, query, body, client)
            shown = "GET" if method == "HEAD" else method
            join = _JOINS.get((shown, path))
            # What one refuses to answer no other is asked.
            if join is None or own[0] in {400, 403, 404, 405}:
                return own
            told = await self._metrics.told(path, own)
            question = Question(shown, path, query, body, client.ip)
            answer = join(await self._answers(question, told))
            return answer if isinstance(answer, tuple) else await answer

    async def _answers(self, question: Question, own: Answer) -> Answers:
        others = self._crew.others()
        async with asyncio.TaskGroup() as tasks:
            timeout_s = LARGE_ANSWER_S if question.path in _LARGE else ANSWER_S
            asked = [
                tasks.create_task(self._told(number, question, timeout_s)) for number in others
            ]
        told: dict[int, Answer] = {self._crew.number: own}
        gone: dict[int, str] = {}
        silent: dict[int, str] = {}
        for number, task in zip(others, asked, strict=True):
            each = task.result()
            if isinstance(each, ConnectRefusedError):
                gone[number] = str(each)
            elif isinstance(each, UnreachableError):
                silent[number] = str(each)
            else:
                told[number] = each
        kept = gone if question.path == METRICS else ()
        pages = [page for number in kept for page in read_kept(self._crew.directory, number)]
        return Answers(dict(sorted(told.items())), gone, silent, pages)

    async def _told(
        self, number: int, question: Question, timeout_s: float
    ) -> Answer | UnreachableError:
        try:
            found = await ask_sibling(self._crew.socket(number), question, timeout_s)
        except UnreachableError as error:
            return error
        return found.status, found.content_type, found.body
