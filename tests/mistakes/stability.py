"""Known mistakes in stability: children, lines between them, batch norm on the way, barriers."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="stability: the line is walked from the other end",
        file="training/interpolation.py",
        good="a.lerp(other[n], alpha) if",
        bad="a.lerp(other[n], 1 - alpha) if",
        tests="tests/test_interpolation.py::test_the_line_is_the_formula",
    ),
    Mutant(
        name="stability: batch norm is recomputed with dropout on",
        file="training/interpolation.py",
        good="    model.eval()\n    try:",
        bad="    model.train()\n    try:",
        tests="tests/test_interpolation.py::test_recomputed_statistics_by_hand",
    ),
    Mutant(
        name="stability: recomputed statistics are a running mean that still holds their first value",
        file="training/interpolation.py",
        good="layer.momentum = None",
        bad="layer.momentum = 0.1",
        tests="tests/test_interpolation.py::test_recomputed_statistics_by_hand",
    ),
    Mutant(
        name="stability: distances count what is pruned",
        file="training/interpolation.py",
        good="[state[name][kept].double() for name, kept in mask.items()]",
        bad="[state[name].flatten().double() for name in mask]",
        tests="tests/test_interpolation.py::test_distances_are_of_the_survivors_alone",
    ),
    Mutant(
        name="stability: all children see the data in the same order",
        file="search/stability.py",
        good='order, noise = (derive(self.seed, "stability", what, number) for what in ("order", "noise"))',
        bad='order = derive(self.seed, "order")\n        noise = derive(self.seed, "stability", "noise", number)',
        tests="tests/test_stability.py::test_children_differ_in_order_and_noise_alone",
    ),
    Mutant(
        name="stability: children differ in the order alone, not in noise",
        file="search/stability.py",
        good='order, noise = (derive(self.seed, "stability", what, number) for what in ("order", "noise"))',
        bad='order = derive(self.seed, "stability", "order", number)\n        noise = derive(self.seed, "noise")',
        tests="tests/test_stability.py::test_children_differ_in_order_and_noise_alone",
    ),
    Mutant(
        name="stability: children of step k start from the initial weights",
        file="search/stability.py",
        good="dense.at(plan.step) if plan.step else plan.dense.start",
        bad="plan.dense.start",
        tests="tests/test_stability.py::test_children_start_from_the_dense_state_of_their_step",
    ),
    Mutant(
        name="stability: the barrier is measured from the lower end",
        file="analysis/stability.py",
        good="return max(errors) - (errors[0] + errors[-1]) / 2",
        bad="return max(errors) - min(errors[0], errors[-1])",
        tests="tests/test_stability.py::test_a_barrier_is_what_rises_above_the_mean_of_the_ends "
        "tests/test_interpolation.py::test_a_convex_loss_has_no_hill",
    ),
    Mutant(
        name="stability: the onset is the first stable step, whatever comes later",
        file="analysis/stability.py",
        good="        if not stable[step]:\n            break\n",
        bad="        if not stable[step]:\n            continue\n",
        tests="tests/test_stability.py::test_onset_is_the_first_step_from_which_all_are_stable",
    ),
    Mutant(
        name="stability: garbage collection forgets what studies name",
        file="store/collect.py",
        good="for study in studies(store, digest))]",
        bad="for study in ())]",
        tests="tests/test_stability.py::test_collection_keeps_what_a_study_names_until_its_experiment_goes",
    ),
)
