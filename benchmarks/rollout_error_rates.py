"""How often a rollout errs: simulated versions with known errors, latencies and predictions, rolled out to the end.

Each rollout goes through `domain.rollout.advance` as production does: a shadow, 10 % and 50 % of the traffic, a look
after every few requests. Errors are independent, latencies lognormal (sigma 0.5), predictions normal. Who is asked
says yes. Targets: an equal challenger is aborted in 5 % of the rollouts at most, whatever both fail; one that fails 3 %
where 1 % is allowed, or takes twice as long where 1.5 times is allowed, is stopped (aborted, or held for a person) in
95 % at least. Baseline, on the same looks: a plain comparison of each look's figures with the limits.

    python benchmarks/rollout_error_rates.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxiway.domain.drift import Bins, Profile
from taxiway.domain.observation import Latencies, VersionObservation, latency_bucket
from taxiway.domain.rollout import Observation, Phase, Plan, State, advance
from taxiway.domain.rollout_analysis import AnalysisPolicy, Step
from taxiway.domain.values import TargetStatus, VersionStatus

MINUTE = timedelta(minutes=1)
POLICY = AnalysisPolicy(max_error_rate=0.01, max_latency_ratio=1.5, max_prediction_shift=0.2)
STEPS = (Step(0, 10 * MINUTE, 200), Step(10, 10 * MINUTE, 200), Step(50, 10 * MINUTE, 200), Step(100))
PLAN = Plan(1, 2, STEPS, POLICY)
START = datetime(2013, 7, 1, tzinfo=UTC)
LOOKS_PER_STEP = 20
SIGMA = 0.5
EDGES = tuple(float(edge) for edge in (-10, -1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28, 10))
MOST_FALSE_ABORTS, LEAST_STOPPED = 0.05, 0.95


@dataclass(frozen=True, slots=True)
class Version:
    """What a version is really like."""

    errors: float = 0.0
    slower: float = 1.0
    shift: float = 0.0


@dataclass(slots=True)
class Seen:
    """What was seen of it in a step."""

    version: int
    truth: Version
    requests: int = 0
    errors: int = 0
    latencies: Counter[int] = field(default_factory=Counter)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(EDGES) + 2, dtype=np.int64))

    def serve(self, requests: int, rng: np.random.Generator) -> None:
        """Answer so many requests."""
        errors = int(rng.binomial(requests, self.truth.errors))
        self.requests += requests
        self.errors += errors
        answered = rng.standard_normal((2, requests - errors))
        self.latencies.update(latency_bucket(ms) for ms in 10 * self.truth.slower * np.exp(SIGMA * answered[0]))
        np.add.at(self.counts, np.searchsorted(EDGES, answered[1] + self.truth.shift), 1)

    def observation(self) -> VersionObservation:
        """Return what a target reports."""
        predictions = Profile(Bins(EDGES), tuple(int(count) for count in self.counts)) if self.counts.any() else None
        latencies = Latencies(self.latencies)
        return VersionObservation(
            self.version, self.requests, self.errors, latencies=latencies, predictions=predictions
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one rollout went: the step of its abort (None: none), whether a person was asked, what a plain rule did."""

    aborted_in: int | None
    held: bool
    requests: int
    plainly_aborted: bool


def roll_out(champion: Version, challenger: Version, rng: np.random.Generator) -> Outcome:
    """Simulate one rollout from its shadow to its end; the challenger gets 200 requests in a step's duration."""
    state = State(PLAN, Phase.SHADOW, 0, START, "")
    held = plainly = False
    requests, now = 0, START
    theirs, ours = Seen(1, champion), Seen(2, challenger)
    while state.phase in (Phase.SHADOW, Phase.CANARY, Phase.WAITING):
        step = STEPS[state.step]
        fresh = step.min_requests // LOOKS_PER_STEP
        traffic = step.traffic or 50.0  # a shadow answers as many as the champion
        ours.serve(fresh, rng)
        theirs.serve(round(fresh * (100 - traffic) / traffic), rng)
        requests, now = requests + fresh, now + step.duration / LOOKS_PER_STEP
        seen = theirs.observation(), ours.observation()
        plainly = plainly or _plain(*seen, step)
        answer = True if state.phase is Phase.WAITING else None
        after, _ = advance(state, Observation(_STATUS, *seen, answer), now)
        held = held or after.phase is Phase.WAITING
        if (after.phase, after.step) != (state.phase, state.step):
            theirs, ours = Seen(1, champion), Seen(2, challenger)
        state = after
    return Outcome(state.step if state.phase is Phase.ABORTING else None, held, requests, plainly)


def _plain(champion: VersionObservation, challenger: VersionObservation, step: Step) -> bool:
    """Compare two numbers with their limits, as soon as there are enough requests; an error rate, a ratio of p99."""
    if challenger.requests < step.min_requests:
        return challenger.errors > POLICY.max_error_rate * step.min_requests
    usual = champion.latencies.quantile(0.99)
    return (
        challenger.errors > POLICY.max_error_rate * challenger.requests
        or challenger.latencies.quantile(0.99) > POLICY.max_latency_ratio * usual
    )


_STATUS = TargetStatus("m", None, tuple(VersionStatus(version, "", "ready") for version in (1, 2)))

EQUAL = {
    "no errors": Version(),
    "0.5 % errors": Version(errors=0.005),
    "1 % errors, all that is allowed": Version(errors=0.01),
    "3 % errors, callers' fault": Version(errors=0.03),
}
BAD = {
    "3 % errors": Version(errors=0.03),
    "2 % errors": Version(errors=0.02),
    "2 x latency": Version(slower=2.0),
    "1.75 x latency": Version(slower=1.75),
    "shift of 0.8 sigma (KS 0.31)": Version(shift=0.8),
}
MUST_STOP = ("3 % errors", "2 x latency")


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of many rollouts; `requests` is the median the challenger had until its abort or the end."""

    runs: int
    aborted: float
    held: float
    stopped: float
    stopped_in_shadow: float
    requests: float
    plainly_aborted: float


def measure(champion: Version, challenger: Version, *, runs: int, seed: int) -> Rates:
    """Roll out so many times."""
    rng = np.random.default_rng(seed)
    outcomes = [roll_out(champion, challenger, rng) for _ in range(runs)]
    return Rates(
        runs=runs,
        aborted=float(np.mean([outcome.aborted_in is not None for outcome in outcomes])),
        held=float(np.mean([outcome.held for outcome in outcomes])),
        stopped=float(np.mean([outcome.held or outcome.aborted_in is not None for outcome in outcomes])),
        stopped_in_shadow=float(np.mean([outcome.aborted_in == 0 for outcome in outcomes])),
        requests=float(np.median([outcome.requests for outcome in outcomes])),
        plainly_aborted=float(np.mean([outcome.plainly_aborted for outcome in outcomes])),
    )


def main() -> None:
    """Print the rates of every case; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rollouts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    runs = 100 if options.quick else 1000
    equal = {name: measure(truth, truth, runs=runs, seed=1) for name, truth in EQUAL.items()}
    bad = {name: measure(Version(), truth, runs=runs, seed=2) for name, truth in BAD.items()}
    print(
        "| challenger | aborted | asked a person | stopped | aborted in shadow | requests | plain comparison aborts |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, rates in {**{f"equal: {name}": rates for name, rates in equal.items()}, **bad}.items():
        shares = (rates.aborted, rates.held, rates.stopped, rates.stopped_in_shadow)
        cells = " | ".join(f"{share:.1%}" for share in shares)
        print(f"| {name} | {cells} | {rates.requests:.0f} | {rates.plainly_aborted:.1%} |")
    if options.json:
        figures = {name: asdict(rates) for name, rates in {**equal, **bad}.items()}
        options.json.write_text(json.dumps(figures, indent=1))
    missed = [name for name, rates in equal.items() if rates.aborted > MOST_FALSE_ABORTS]
    missed += [name for name in MUST_STOP if bad[name].stopped < LEAST_STOPPED]
    if missed:
        sys.exit(f"target missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
