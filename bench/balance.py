"""``python -m bench.balance``: what choosing an endpoint costs, and how well load is spread.

No sockets: one core, in processor time, the best of many short runs. A request is a choice with
its ticket, the answer and the end; it must not cost more than 1.5 times as much over 1,000
endpoints as over one. Beside it: the share of load that an endpoint ten times as slow as two
others gets, by peak-EWMA here and by haproxy's rule ``leastconn`` (fewest in flight), both in
the same simulated open loop.

Exit status: 0 targets met, 1 one was missed.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.cost import costs_of
from bench.record import RESULTS, record
from cli.version import core_modules, core_speed
from discovery.model import Address, Endpoint
from proxy.outbound.balancer import Balancer, Balancing
from proxy.outbound.pick import Outcome
from proxy.telemetry.balancer import BalancerSlots

COUNTS: Final = (1, 2, 3, 10, 100, 1_000)
MAX_RATIO: Final = 1.5
MAX_SHARE: Final = 0.1
LATENCIES: Final = (0.01, 0.01, 0.1)
RATE: Final = 500.0
REQUESTS: Final = 20_000
_TURNS: Final = 60


def crowd(count: int) -> Balancer:
    """Return a balancer over ``count`` endpoints, each of which has answered before."""
    made = Balancer(Balancing(), random.Random(1).random, BalancerSlots())
    made.update(
        (Endpoint(address=Address(f"10.1.{n >> 8}.{n & 255}", 8080)) for n in range(count)), 0.0
    )
    for step in range(count * 4):
        one_request(made, step * 0.001)
    return made


def one_request(balancer: Balancer, now: float) -> None:
    """Choose, get an answer after a millisecond, end."""
    pick = balancer.pick(now)
    if pick is not None:
        pick.answered(now + 0.001)
        pick.finish(now + 0.001, Outcome.SUCCESS)


def stepper(count: int) -> Callable[[], None]:
    """Return what makes a request over ``count`` endpoints, a little later each time."""
    balancer = crowd(count)
    clock = [count * 0.004]

    def step() -> None:
        clock[0] += 0.000_1
        one_request(balancer, clock[0])

    return step


def costs() -> dict[int, float]:
    """Return the microseconds that a request costs over each of COUNTS endpoints."""
    return dict(zip(COUNTS, costs_of([stepper(count) for count in COUNTS], _TURNS), strict=True))


def ewma_share(seed: int) -> float:
    """Return the share of the slow endpoint with our balancer."""
    balancer = Balancer(Balancing(), random.Random(seed).random, BalancerSlots())
    balancer.update((Endpoint(address=Address("10.1.0.1", n)) for n in (1, 2, 3)), 0.0)

    def choose(now: float) -> tuple[int, Callable[[float], None]]:
        pick = balancer.pick(now)
        assert pick is not None
        return pick.endpoint.address.port - 1, lambda at: pick.finish(at, Outcome.SUCCESS)

    return _share(choose, seed)


def least_share(seed: int) -> float:
    """Return the share of the slow endpoint when the one with the fewest in flight is chosen."""
    in_flight = [0, 0, 0]
    turn = [0]

    def choose(_now: float) -> tuple[int, Callable[[float], None]]:
        turn[0] += 1
        # Among equals they take turns, as haproxy's tree of servers does.
        number = min(range(3), key=lambda each: (in_flight[each], (each - turn[0]) % 3))
        in_flight[number] += 1

        def done(_at: float) -> None:
            in_flight[number] -= 1

        return number, done

    return _share(choose, seed)


def _share(choose: Callable[[float], tuple[int, Callable[[float], None]]], seed: int) -> float:
    chance, got = random.Random(seed), Counter[int]()
    under_way: list[tuple[float, int, Callable[[float], None]]] = []
    now = 0.0
    for sequence in range(REQUESTS):
        now += chance.expovariate(RATE)
        while under_way and under_way[0][0] <= now:
            at, _, done = heapq.heappop(under_way)
            done(at)
        number, done = choose(now)
        got[number] += 1
        end = now + LATENCIES[number] * chance.uniform(0.5, 1.5)
        heapq.heappush(under_way, (end, sequence, done))
    return got[2] / REQUESTS


def main() -> int:
    """Measure, print, and tell whether the targets are met."""
    table = Table("endpoints", "µs a request", "times one")
    each = costs()
    for count, cost in each.items():
        table.add_row(str(count), f"{cost:.2f}", f"{cost / each[1]:.2f}")
    ours = max(ewma_share(seed) for seed in range(5))
    theirs = max(least_share(seed) for seed in range(5))
    console = Console()
    console.print(f"core: {core_speed(core_modules())}")
    console.print(table)
    console.print(
        f"share of an endpoint of three at 10 times the latency, worst of 5 runs of {REQUESTS:,}: "
        f"{ours:.1%} (peak-EWMA), {theirs:.1%} (fewest in flight, as haproxy's leastconn)"
    )
    ratio = each[COUNTS[-1]] / each[1]
    missed = [
        f"{what} is {got:.2f}, to be at most {wanted:.2f}"
        for what, got, wanted in (
            (f"the cost over {COUNTS[-1]:,} endpoints by that over one", ratio, MAX_RATIO),
            ("the slow endpoint's share", ours, MAX_SHARE),
        )
        if got > wanted
    ]
    for line in missed:
        console.print(f"missed: {line}")
    if "--save" in sys.argv[1:]:
        shares = {"peak_ewma": ours, "fewest_in_flight": theirs}
        data = {"microseconds": each, "share_of_the_slow": shares, "missed": missed}
        console.print(f"wrote {record('balance', data, RESULTS)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
