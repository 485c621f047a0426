"""What a running count proves, however often one looks: bounds that hold at every look at once.

A rollout is looked at every few seconds. An ordinary confidence bound may be wrong at each look, so that enough looks
make it wrong almost surely. Here evidence is a likelihood ratio: how much likelier the count is if the odds were r
times what they may be than if they were just that, averaged over some r. As long as the share is what it may be, or
less, the average is a nonnegative supermartingale that starts at 1, and the probability that it *ever* reaches
1 / alpha is at most alpha (J. Ville, 1939; the test is A. Wald's of 1945, mixed over alternatives as by H. Robbins,
Annals of Mathematical Statistics 41, 1970). Neither the number of looks nor their moments matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left

_ODDS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)
"""The odds ratios that are averaged: from harm that takes thousands of requests to show, to harm that takes three."""
_HALVINGS = 40


def surely_more(count: int, trials: int, share: float, *, alpha: float) -> bool:
    """Tell whether `count` of so many trials proves that more than this share of them are such.

    Wrong at any look with probability alpha at most. A single one proves that the share is above 0.
    """
    if share <= 0:
        return count > 0
    logs = [count * math.log(odds) - trials * math.log1p(share * (odds - 1)) for odds in _ODDS]
    largest = max(logs)
    mean = largest + math.log(math.fsum(math.exp(log - largest) for log in logs) / len(logs))
    return mean >= -math.log(alpha)


def least_share(count: int, trials: int, *, alpha: float) -> float:
    """Return the lower confidence bound of the share, valid at all looks at once; 0 when nothing is proven."""
    low, high = 0.0, count / trials if trials else 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if surely_more(count, trials, middle, alpha=alpha) else (low, middle)
    return low


def surprising_count(trials: int, share: float, *, alpha: float) -> int:
    """Return the smallest count that proves more than this share; trials + 1 when none does."""
    return bisect_left(range(trials + 1), True, key=lambda count: surely_more(count, trials, share, alpha=alpha))
