"""How well load is spread: an open loop of requests over endpoints that serve them, in no time.

Endpoints here are real queues with a number of workers each; only time is made up.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from proxy.outbound.balancer import Balancer
from proxy.outbound.pick import Outcome, Pick
from tests.unit.proxy.outbound.crowd import balancer, endpoint, must


@dataclass
class Simulation:
    """Requests at a rate, exponentially spaced, to endpoints that answer after a while each."""

    balancer: Balancer
    latency: Callable[[int, float], float]
    """(endpoint's number, now) → seconds; infinite: never."""
    chance: random.Random = field(default_factory=lambda: random.Random(11))
    got: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    under_way: list[tuple[float, int, Pick]] = field(default_factory=list)
    now: float = 0.0

    def run(self, requests: int, rate: float) -> None:
        """Send so many requests, whatever becomes of those before."""
        for sequence in range(requests):
            self.now += self.chance.expovariate(rate)
            while self.under_way and self.under_way[0][0] <= self.now:
                at, _, done = heapq.heappop(self.under_way)
                done.finish(at, Outcome.SUCCESS)
            pick = must(self.balancer.pick(self.now))
            number = int(pick.endpoint.address.ip.rpartition(".")[2])
            latency = self.latency(number, self.now) * self.chance.uniform(0.5, 1.5)
            self.got[number] += 1
            self.seconds.append(latency)
            heapq.heappush(self.under_way, (self.now + latency, sequence, pick))

    def share(self, number: int) -> float:
        """Return the part of all requests that an endpoint got."""
        return self.got[number] / self.got.total()


@pytest.mark.parametrize("fast_s", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_of_three_at_ten_times_the_latency_gets_less_than_a_tenth(
    fast_s: float, seed: int
) -> None:
    """20,000 requests at 500 a second, the start included."""
    trio = balancer(*map(endpoint, range(3)), chance=random.Random(seed).random)
    simulation = Simulation(trio, lambda number, _: fast_s * (10 if number == 2 else 1))
    simulation.run(20_000, rate=500)
    assert simulation.share(2) < 0.1
    assert abs(simulation.share(0) - simulation.share(1)) < 0.2


def test_an_endpoint_that_falls_silent_is_left_alone_before_anything_times_out() -> None:
    """It takes the requests and never answers: of 20,000 it gets a handful each ten seconds."""
    trio = balancer(*map(endpoint, range(3)))
    simulation = Simulation(trio, lambda *_: 0.005)
    simulation.run(5_000, rate=500)
    simulation.got.clear()
    simulation.latency = lambda number, _: float("inf") if number == 1 else 0.005
    simulation.run(20_000, rate=500)
    assert simulation.got[1] <= 40


def test_an_endpoint_with_a_silent_stream_gets_its_share_of_everything_else() -> None:
    """Soon after its silence began, and from then on."""
    trio = balancer(*map(endpoint, range(3)))
    simulation = Simulation(trio, lambda *_: 0.005)
    quiet = must(trio.pick(0.0))
    number = int(quiet.endpoint.address.ip.rpartition(".")[2])
    simulation.now = 9.0
    simulation.run(5_000, rate=500)
    simulation.got.clear()
    simulation.run(20_000, rate=500)
    assert simulation.share(number) > 0.2


def test_an_endpoint_that_recovers_gets_its_share_again() -> None:
    """A minute after it was slow it is as good as the others."""
    trio = balancer(*map(endpoint, range(3)))
    simulation = Simulation(trio, lambda number, now: 0.2 if number == 1 and now < 20 else 0.005)
    simulation.run(10_000, rate=500)
    simulation.run(30_000, rate=500)
    simulation.got.clear()
    simulation.run(10_000, rate=500)
    assert simulation.share(1) > 0.25


def test_endpoints_that_are_alike_share_alike_under_load() -> None:
    """Ten of them, none with a tenth more or less than its share."""
    ten = balancer(*map(endpoint, range(10)))
    simulation = Simulation(ten, lambda *_: 0.02)
    simulation.run(50_000, rate=1000)
    assert all(0.09 < simulation.share(number) < 0.11 for number in range(10))


def test_an_endpoint_that_fails_at_once_attracts_no_more_than_its_share() -> None:
    """Without a breaker too: failing fast is not being fast."""
    trio, now, got = balancer(*map(endpoint, range(3))), 0.0, Counter[int]()
    chance = random.Random(5)
    for _ in range(20_000):
        now += chance.expovariate(500)
        pick = must(trio.pick(now))
        number = int(pick.endpoint.address.ip.rpartition(".")[2])
        got[number] += 1
        if number == 2:
            pick.finish(now + 0.0001, Outcome.FAILURE)
        else:
            pick.finish(now + 0.005 * chance.uniform(0.5, 1.5), Outcome.SUCCESS)
    assert got[2] / got.total() < 0.4


def test_long_connections_are_spread_evenly_however_rarely_they_come() -> None:
    """One in half a minute, each kept for a day: the third endpoint's connect is no faster."""
    trio, now = balancer(*map(endpoint, range(3)), by_connection=True), 0.0
    for _ in range(300):
        pick = must(trio.pick(now))
        number = int(pick.endpoint.address.ip.rpartition(".")[2])
        pick.opened(now + 0.002 * (1 + number))
        now += 30.0
    open_now = [each.load.pending for each in trio._members.values()]
    assert max(open_now) - min(open_now) <= 20
