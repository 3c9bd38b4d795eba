"""Known mistakes in searches, schedules, requests and who drives them."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="the reset is a no-op: tickets go on from the trained weights",
        file="search/plan.py",
        good="rewound = base.dense.at(plan.rewind_to) if plan.rewind_to else plan.init()",
        bad="rewound = before.at(plan.rewind_to) if plan.rewind_to else before.at(Moment.END)",
        tests="tests/test_contracts_starts.py",
    ),
    Mutant(
        name="rounds after the first do not rewind to the dense network's step k",
        file="search/plan.py",
        good="rewound = base.dense.at(plan.rewind_to) if plan.rewind_to",
        bad="rewound = before.at(plan.rewind_to) if plan.rewind_to",
        tests="tests/test_contracts_starts.py",
    ),
    Mutant(
        name="a reinit is the ticket's own init",
        file="search/plan.py",
        good='return Init(seed=derive(self.seed, "reinit", draw))',
        bad="return self.init()",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="the early stop may be step 0",
        file="answers.py",
        good="if p.step >= max(1, self.settled) and",
        bad="if p.step >= self.settled and",
        tests="tests/test_training.py",
    ),
    Mutant(
        name="a control is the ticket itself",
        file="procedure.py",
        good="                course = replace(course, start=fresh, hold=0)\n",
        bad="                pass\n",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a search ends at a level that failed after a leap",
        file="ladder.py",
        good="if high == low + 1 and (high > levels or failed[high] == low):",
        bad="if high == low + 1:",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="fine-tuning starts from the weights before the surgeon adjusted them",
        file="search/plan.py",
        good="trained = cuts.mask, cuts.adjusted or before.at(Moment.END)",
        bad="trained = cuts.mask, before.at(Moment.END)",
        tests="tests/test_criteria_second_order.py",
    ),
    Mutant(
        name="layerwise allocation goes by another rate than the schedule",
        file="planning.py",
        good="rate = schedule.rate if isinstance(schedule, Geometric) else recipe.rate",
        bad="rate = recipe.rate",
        tests="tests/test_schedules.py",
    ),
    Mutant(
        name="states with frozen places are packed under the mask and lose their constants",
        file="executors/fitting.py",
        good="return fit.mask if fit.frozen is None and fit.dynamics is None else None",
        bad="return fit.mask",
        tests="tests/test_frozen.py",
    ),
    Mutant(
        name="the untrained control is trained",
        file="search/controls.py",
        good="cuts.mask, last=0, frozen=frozen)",
        bad="cuts.mask, frozen=frozen)",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="gradual: early stop is that of a network that was denser",
        file="answers.py",
        good="if p.step >= max(1, self.settled) and",
        bad="if p.step >= 1 and",
        tests="tests/test_gradual.py",
    ),
    Mutant(
        name="gradual: the control of inverted scores is pruned as the ticket is",
        file="search/gradual.py",
        good="pruner=replace(plan.pruner, inverted=inverted)",
        bad="pruner=plan.pruner",
        tests="tests/test_gradual_experiments.py tests/test_contracts_search.py",
    ),
    Mutant(
        name="gradual: the cubic schedule goes by sparsity left to remove, step after step",
        file="schedules.py",
        good="        keep = round(schedule(cut, n) * total)\n",
        bad="        keep = round(schedule(cut, n) * (found[-1][1] if found else total))\n",
        tests="tests/test_gradual_cuts.py",
    ),
)
