"""Paired tests, intervals, power and verdicts on replicate values. Needs numpy and scipy, never torch."""

from __future__ import annotations

from tombola.statistics.bootstrap import BCA_COVERAGE, BCa, bca, bca_coverage
from tombola.statistics.guarantee import hoeffding
from tombola.statistics.intervals import Interval, interval, replicate_means
from tombola.statistics.levels import Overall, holds_down_to, overall
from tombola.statistics.multiplicity import holm
from tombola.statistics.paired import TTest, equivalence, greater, less, noninferiority, superiority, t_interval
from tombola.statistics.pairs import log_ratios, paired_differences, paired_values
from tombola.statistics.permutation import SignFlip, sign_flip
from tombola.statistics.power import power_equivalence, power_greater, required_equivalence, required_replicates
from tombola.statistics.ratios import Ratio, below, geometric_ratio
from tombola.statistics.shares import Share, mcnemar, wilson
from tombola.statistics.speed import Speed, judge_speed
from tombola.statistics.verdicts import Judgement, Needs, Pairs, judge, level_p

__all__ = [
    "BCA_COVERAGE",
    "BCa",
    "Interval",
    "Judgement",
    "Needs",
    "Overall",
    "Pairs",
    "Ratio",
    "Share",
    "SignFlip",
    "Speed",
    "TTest",
    "bca",
    "bca_coverage",
    "below",
    "equivalence",
    "geometric_ratio",
    "greater",
    "hoeffding",
    "holds_down_to",
    "holm",
    "interval",
    "judge",
    "judge_speed",
    "less",
    "level_p",
    "log_ratios",
    "mcnemar",
    "noninferiority",
    "overall",
    "paired_differences",
    "paired_values",
    "power_equivalence",
    "power_greater",
    "replicate_means",
    "required_equivalence",
    "required_replicates",
    "sign_flip",
    "superiority",
    "t_interval",
    "wilson",
]
