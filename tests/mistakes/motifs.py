"""Known mistakes in gene networks: how they are read, simulated, rewarded and pruned."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="a motif printed by columns is read by rows",
        file="motifs/seeds.py",
        good="return as_printed.transposed() if self.transposed else as_printed",
        bad="return as_printed",
        tests="tests/test_motifs_networks.py",
    ),
    Mutant(
        name="the solver takes the morphogen of the step's beginning in its middle",
        file="motifs/simulation.py",
        good="two = slope(x + h / 2 * one, middle)",
        bad="two = slope(x + h / 2 * one, begin)",
        tests="tests/test_motifs_simulation.py",
    ),
    Mutant(
        name="a path from any gene counts, whether it reads the morphogen or not",
        file="motifs/simulation.py",
        good="return (reach & (morphogen != 0)).any(1)",
        bad="return reach.any(1)",
        tests="tests/test_motifs_simulation.py",
    ),
    Mutant(
        name="the kernel lets genes decay at a rate of its own",
        file="motifs/kernel.py",
        good="decay=dynamics.decay,",
        bad="decay=1.0,",
        tests="tests/with_native/test_motifs_kernel.py",
    ),
    Mutant(
        name="boundaries may lie beside each other",
        file="motifs/reward.py",
        good="(at + scoring.spacing).clamp_max",
        bad="(at + 1).clamp_max",
        tests="tests/test_motifs_reward.py",
    ),
    Mutant(
        name="cells must be still from the first moment on",
        file="motifs/reward.py",
        good="late, end = traces[:, half:], traces[:, last].double()",
        bad="late, end = traces[:, 0:], traces[:, last].double()",
        tests="tests/test_motifs_reward.py",
    ),
    Mutant(
        name="two boundaries in all are rewarded",
        file="motifs/reward.py",
        good="torch.where(total > given.least,",
        bad="torch.where(total >= given.least,",
        tests="tests/test_motifs_reward.py",
    ),
    Mutant(
        name="the strict reward pays for stripes that fade",
        file="motifs/reward.py",
        good="3 * readings.boundaries.amin(1)",
        bad="readings.boundaries.sum(1)",
        tests="tests/test_motifs_reward.py",
    ),
    Mutant(
        name="strong repression counts as a small weight",
        file="motifs/descent.py",
        good="key=lambda edge: abs(network.weights[edge[0]][edge[1]]))",
        bad="key=lambda edge: network.weights[edge[0]][edge[1]])",
        tests="tests/test_motifs_tune.py::test_magnitude_with_tuning",
    ),
    Mutant(
        name="sub-networks are alike where their edges to gene 1 are",
        file="motifs/pruned.py",
        good="    for _ in range(bench.network.genes - 1):\n",
        bad="    for _ in range(0):\n",
        tests="tests/test_motifs_pruned.py",
    ),
    Mutant(
        name="the hill-climb moves edges that are not there",
        file="motifs/hillclimb.py",
        good="weights = torch.where(mask, (weights + moves[:, :, :genes]).clamp(-BOUND, BOUND), weights)",
        bad="weights = (weights + moves[:, :, :genes]).clamp(-BOUND, BOUND)",
        tests="tests/test_motifs_tune.py",
    ),
    Mutant(
        name="the hill-climb never cools down",
        file="motifs/hillclimb.py",
        good="return self.sigma * self.cooling**number",
        bad="return self.sigma",
        tests="tests/test_motifs_tune.py",
    ),
    Mutant(
        name="pruning with tuning goes on below the share",
        file="motifs/descent.py",
        good="and steps[-1].reward >= wanted:",
        bad="and steps[-1].reward >= 0:",
        tests="tests/test_motifs_tune.py",
    ),
    Mutant(
        name="a resumed hill-climb goes on from its fittest network alone",
        file="motifs/course.py",
        good="for name in Population.__slots__})",
        bad="[:1] for name in Population.__slots__})",
        tests="tests/test_motifs_task.py",
    ),
    Mutant(
        name="a rewound hill-climb begins again with the moves of round 0",
        file="motifs/course.py",
        good="population = advanced(population, self.mask, step, seed",
        bad="population = advanced(population, self.mask, step - self.fit.first, seed",
        tests="tests/test_motifs_task.py",
    ),
    Mutant(
        name="starts whose dense climb fails count as well",
        file="motifs/tickets.py",
        good="if rewards[DENSE][start] >= terms.success",
        bad="if rewards[DENSE][start] >= 0",
        tests="tests/test_motifs_tickets.py",
    ),
    Mutant(
        name="a ticket needs to beat one of its controls alone",
        file="motifs/tickets.py",
        good="if not missing:",
        bad="if len(missing) < len(start):",
        tests="tests/test_motifs_tickets.py",
    ),
    Mutant(
        name="McNemar's test counts pairs that agree",
        file="statistics/shares.py",
        good="differ = one + other",
        bad="differ = len(known)",
        tests="tests/test_motifs_tickets.py",
    ),
    Mutant(
        name="rewards are compared in parts of the tickets' mean",
        file="analysis/relative.py",
        good='if row["level"] == 0], own)',
        bad='if row["level"] == 1], own)',
        tests="tests/test_motifs_task.py",
    ),
)
