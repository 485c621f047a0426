"""The judgement of one step of a rollout: is the challenger surely bad, good enough, or a case for a person?

Errors and latency prove harm, so they abort, and only when they are sure: their bounds hold at every look at once
(`domain.sequential`), so that looking often does not make them err. A shift of the predictions, or a shadow that does
not agree, proves nothing (a better model predicts something else): a person decides. What may yet become sure gets
more time, up to `PATIENCE` times the step's; what is unsure then is for a person too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import NormalDist

import numpy as np

from taxiway.domain.drift import Profile
from taxiway.domain.evidence import Json, Verdict
from taxiway.domain.observation import EQUAL, Agreement, VersionObservation
from taxiway.domain.sequential import least_share, surely_more, surprising_count

PATIENCE = 3
"""An undecided step goes on until it has had this many times its duration and its requests."""
CONFIDENCE = 0.95
"""Of the agreement's lower bound."""
CHANCE = 0.01
"""How often equal predictions seem shifted though nothing shifted."""
QUANTILES = {0.99: 1000, 0.95: 200, 0.9: 100, 0.5: 0}
"""The latency that is compared: the highest of these that ten of `min_requests` exceed (quantile -> requests)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a share of the traffic in percent (0 is a shadow), how long at least, and on how many requests."""

    traffic: float
    duration: timedelta = timedelta(0)
    min_requests: int = 0


@dataclass(frozen=True, slots=True)
class AnalysisPolicy:
    """When a step is good enough; see `rollout.analysis` of the spec."""

    max_error_rate: float
    max_latency_ratio: float
    max_prediction_shift: float
    min_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What both versions did in a step, how long it has lasted, and how often a sure finding may be wrong."""

    step: Step
    champion: VersionObservation
    challenger: VersionObservation
    elapsed: timedelta
    alpha: float

    def is_over(self, times: int = 1) -> bool:
        """Tell whether the step has had so many times its duration and its requests, of either version."""
        return self.fewest >= times * self.step.min_requests and self.elapsed >= times * self.step.duration

    @property
    def fewest(self) -> int:
        """Count the requests of the version that has fewer."""
        return min(self.challenger.requests, self.champion.requests)


@dataclass(frozen=True, slots=True)
class Analysis:
    """What follows from a look: no verdict while the step goes on."""

    verdict: Verdict | None
    reason: str
    figures: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Finding:
    """What one comparison says; `open` when more requests may say something else."""

    verdict: Verdict
    text: str = ""
    figures: Mapping[str, Json] = field(default_factory=dict)
    open: bool = False


def analyse(policy: AnalysisPolicy, look: Look) -> Analysis:
    """Judge a step by everything that was seen of it so far."""
    findings = (_errors(policy, look), _latency(policy, look), _shift(policy, look), _agreement(policy, look))
    figures = {name: value for finding in findings for name, value in finding.figures.items()}
    failed, unsure = (_of(findings, verdict) for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE))
    if failed:
        return Analysis(Verdict.FAILED, _sentence(failed), figures)
    if look.fewest < look.step.min_requests:
        return Analysis(None, f"waiting for requests: {look.fewest} of {look.step.min_requests}", figures)
    if not look.is_over():
        return Analysis(None, "waiting for the end of the step", figures)
    if any(finding.open for finding in unsure) and not look.is_over(PATIENCE):
        return Analysis(None, f"undecided as yet: {_sentence(unsure)}", figures)
    if unsure:
        return Analysis(Verdict.INCONCLUSIVE, _sentence(unsure), figures)
    return Analysis(Verdict.PASSED, _sentence(findings), figures)


def _errors(policy: AnalysisPolicy, look: Look) -> _Finding:
    """Compare errors: with the policy, and with the champion's, who fails too when the callers are to blame."""
    ours, theirs, allowed = look.challenger, look.champion, policy.max_error_rate
    rate = ours.errors / ours.requests if ours.requests else 0.0
    least = least_share(ours.errors, ours.requests, alpha=look.alpha)
    figures: dict[str, Json] = {
        "error_rate": rate,
        "error_rate_at_least": least,
        "champion_error_rate": theirs.errors / theirs.requests if theirs.requests else None,
    }
    count = f"{ours.errors} of {ours.requests} requests failed"
    if rate <= allowed:
        dropped = f" ({ours.dropped} copies more were not sent: it could not keep up)" if ours.dropped else ""
        return _Finding(Verdict.PASSED, count + dropped, figures)
    text, champions = f"{count}; the policy allows {allowed:.2%}", f"{theirs.errors} of {theirs.requests}"
    if not surely_more(ours.errors, ours.requests, allowed, alpha=look.alpha):
        return _Finding(Verdict.INCONCLUSIVE, f"{text}, and that could be chance", figures, open=True)
    both, share = ours.errors + theirs.errors, ours.requests / (ours.requests + theirs.requests)
    if theirs.requests and not surely_more(ours.errors, both, share, alpha=look.alpha):
        return _Finding(
            Verdict.INCONCLUSIVE, f"{text}, but the champion fails about as often ({champions})", figures, open=True
        )
    sure = f"surely more than {least:.2%} do, and of the champion's {champions}"
    return _Finding(Verdict.FAILED, f"{text} ({sure})", figures)


def _latency(policy: AnalysisPolicy, look: Look) -> _Finding:
    """Compare a high quantile of the latencies: the ratio, and what it surely is at least.

    Bounds of each quantile are order statistics that hold at every look at once (Howard & Ramdas, Bernoulli 28, 2022):
    how many latencies lie above the true quantile is a count with a known share.
    """
    ours, theirs = look.challenger.latencies, look.champion.latencies
    quantile = max(share for share, requests in QUANTILES.items() if look.step.min_requests >= requests)
    slow, usual = ours.quantile(quantile), theirs.quantile(quantile)
    if not slow or not usual:
        return _Finding(Verdict.PASSED)
    side = look.alpha / 2
    low = ours.largest(surprising_count(ours.total, 1 - quantile, alpha=side))
    high = theirs.smallest(surprising_count(theirs.total, quantile, alpha=side))
    ratio, least, allowed = slow / usual, low / high, policy.max_latency_ratio
    name = f"p{quantile * 100:g} latency"
    figures: dict[str, Json] = {"latency": name, "latency_ratio": ratio, "latency_ratio_at_least": least}
    text = f"{name} is {ratio:.2f} x the champion's ({slow:.1f} ms and {usual:.1f} ms)"
    if least > allowed:
        return _Finding(Verdict.FAILED, f"{text}, surely more than {least:.2f} x; allowed is {allowed:g} x", figures)
    if ratio > allowed:
        return _Finding(
            Verdict.INCONCLUSIVE, f"{text}; allowed is {allowed:g} x, and that could be chance", figures, open=True
        )
    return _Finding(Verdict.PASSED, text, figures)


def _shift(policy: AnalysisPolicy, look: Look) -> _Finding:
    """Compare the distributions of the predictions; what chance alone can do is no shift."""
    ours, theirs = look.challenger.predictions, look.champion.predictions
    if ours is None or theirs is None or not ours.rows or not theirs.rows:
        return _Finding(Verdict.PASSED)
    moved, chance, allowed = distance(theirs, ours), _chance(look, ours), policy.max_prediction_shift
    means = " became ".join(_mean(seen) for seen in (look.champion, look.challenger))
    text = f"the predictions are shifted by {moved:.2f}"
    figures: dict[str, Json] = {"prediction_shift": moved, "prediction_shift_by_chance": chance}
    if moved > max(allowed, chance):
        text = f"{text}; allowed is {allowed:g}, chance explains {chance:.2f} (their mean {means})"
        return _Finding(Verdict.INCONCLUSIVE, text, figures)
    return _Finding(Verdict.PASSED, text, figures)


def distance(reference: Profile, current: Profile) -> float:
    """Return how far two profiles on the same bins are apart, 0 to 1: missing values are a bin like the others.

    Numbers: the largest difference between the shares up to an edge (Kolmogorov-Smirnov, on the bins' edges). Classes:
    the share of predictions that would have to change (total variation, half the sum of the differences). Profiles on
    different bins have nothing in common: 1.
    """
    if reference.bins != current.bins:
        return 1.0
    p, q = (np.asarray(side.counts, dtype=float) / side.rows for side in (reference, current))
    if reference.bins.categories is None:
        return float(np.abs(np.cumsum(p - q)).max())
    return float(np.abs(p - q).sum() / 2)


def _chance(look: Look, profile: Profile) -> float:
    """Return the distance that equal versions exceed with probability `CHANCE` at most.

    sqrt(ln(sets / chance) / 2 x (1/n + 1/m)): for numbers Smirnov's critical value, with 2 sets (N. Smirnov, 1948);
    for k classes W. Hoeffding's inequality (1963) over all 2^k - 2 sets of classes. n and m are *requests*: rows of one
    request are not independent.
    """
    answered = [max(1, seen.requests - seen.errors) for seen in (look.champion, look.challenger)]
    classes = sum(1 for count in profile.counts if count) if profile.bins.categories is not None else 0
    sets = max(2, 2 ** min(classes + 1, 1000) - 2)
    return math.sqrt(math.log(sets / CHANCE) / 2 * sum(1 / requests for requests in answered))


def _agreement(policy: AnalysisPolicy, look: Look) -> _Finding:
    """Compare the answers of a shadow with the champion's to the same requests."""
    agreement, wanted = look.challenger.agreement, policy.min_agreement
    if look.step.traffic > 0:
        return _Finding(Verdict.PASSED)
    if agreement is None:
        verdict = Verdict.PASSED if wanted is None else Verdict.INCONCLUSIVE
        return _Finding(verdict, "no request was answered by champion and shadow" if wanted else "", open=True)
    least = _least_agreement(agreement)
    figures: dict[str, Json] = {"agreement": agreement.value, "agreement_at_least": least, "pairs": agreement.requests}
    text = f"agreement in shadow is {agreement.value:.3f} ({agreement.measure}, {agreement.requests} requests)"
    if wanted is None or least >= wanted:
        return _Finding(Verdict.PASSED, text, figures)
    unsure = agreement.value >= wanted
    text = f"{text}; wanted is {wanted:g}" + (f", and it may be {least:.3f}" if unsure else "")
    return _Finding(Verdict.INCONCLUSIVE, text, figures, open=unsure)


def _least_agreement(agreement: Agreement) -> float:
    """Return the lower confidence bound: Wilson's for a share (1927), R. Fisher's z for a concordance (1921)."""
    n, value, z = agreement.requests, agreement.value, NormalDist().inv_cdf(CONFIDENCE)
    if agreement.measure == EQUAL:
        centre, half = value + z**2 / (2 * n), z * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
        return (centre - half) / (1 + z**2 / n)
    if n <= 3:
        return -1.0
    return math.tanh(math.atanh(min(value, 1 - 1e-12)) - z / math.sqrt(n - 3))


def _mean(seen: VersionObservation) -> str:
    return "none" if seen.prediction_mean is None else f"{seen.prediction_mean:.4g}"


def _of(findings: Sequence[_Finding], verdict: Verdict) -> list[_Finding]:
    return [finding for finding in findings if finding.verdict is verdict]


def _sentence(findings: Sequence[_Finding]) -> str:
    return "; ".join(finding.text for finding in findings if finding.text)
