"""The criteria by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["CRITERIA"]

_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
_DE_JORGE = "de Jorge et al. 2021, arXiv 2006.09081"
_ZHOU = "Zhou et al. 2019, arXiv 1905.01067"
_SIETSMA = "Sietsma and Dow 1988, Neural net pruning: why and how"

CRITERIA: dict[str, Entry] = {
    "magnitude": Entry(
        home="tombola.criteria.weights:magnitude",
        summary="|w| after training: small weights go",
        source=f"Han et al. 2015, arXiv 1506.02626; {_FRANKLE}",
        aliases=("large_final",),
    ),
    "random": Entry(
        home="tombola.criteria.weights:random", summary="a random draw: the floor that every criterion must beat"
    ),
    "small_final": Entry(
        home="tombola.criteria.weights:small_final",
        summary="-|w|: large weights go, a control for magnitude",
        source=_ZHOU,
    ),
    "large_init": Entry(
        home="tombola.criteria.weights:large_init",
        summary="|w| before training",
        source=_ZHOU,
    ),
    "small_init": Entry(
        home="tombola.criteria.weights:small_init",
        summary="-|w| before training",
        source=_ZHOU,
    ),
    "large_init_large_final": Entry(
        home="tombola.criteria.weights:large_init_large_final",
        summary="large before and after training, at one percentile of each layer",
        source=_ZHOU,
    ),
    "small_init_small_final": Entry(
        home="tombola.criteria.weights:small_init_small_final",
        summary="small before and after training, at one percentile of each layer",
        source=_ZHOU,
    ),
    "magnitude_increase": Entry(
        home="tombola.criteria.weights:magnitude_increase",
        summary="|w| after minus |w| before training: what went towards 0 goes",
        source=_ZHOU,
    ),
    "movement": Entry(
        home="tombola.criteria.weights:movement",
        summary="distance from the initial weight: what hardly moved goes",
        source=_ZHOU,
    ),
    "least_movement": Entry(
        home="tombola.criteria.weights:least_movement",
        summary="minus the distance from the initial weight: what travelled far goes",
        source="a control of our own for movement",
    ),
    "large_final_same_sign": Entry(
        home="tombola.criteria.signs:large_final_same_sign",
        summary="|w|; weights whose sign changed go first",
        source=_ZHOU,
    ),
    "large_final_different_sign": Entry(
        home="tombola.criteria.signs:large_final_different_sign",
        summary="|w|; weights that kept their sign go first",
        source=_ZHOU,
    ),
    "magnitude_increase_same_sign": Entry(
        home="tombola.criteria.signs:magnitude_increase_same_sign",
        summary="growth of |w|; weights whose sign changed go first",
        source=_ZHOU,
    ),
    "magnitude_increase_different_sign": Entry(
        home="tombola.criteria.signs:magnitude_increase_different_sign",
        summary="growth of |w|; weights that kept their sign go first",
        source=_ZHOU,
    ),
    "movement_same_sign": Entry(
        home="tombola.criteria.signs:movement_same_sign",
        summary="distance from the initial weight; weights whose sign changed go first",
        source=f"after {_ZHOU}",
    ),
    "movement_different_sign": Entry(
        home="tombola.criteria.signs:movement_different_sign",
        summary="distance from the initial weight; weights that kept their sign go first",
        source=f"after {_ZHOU}",
    ),
    "snip": Entry(
        home="tombola.criteria.gradients:snip",
        summary="|gradient x weight| before training",
        source="Lee et al. 2019, arXiv 1810.02340",
    ),
    "iterative_snip": Entry(
        home="tombola.criteria.rounds:IterativeSnip",
        summary="snip in rounds: what is cut stays cut",
        source=_DE_JORGE,
        aliases=("iterative-snip",),
    ),
    "force": Entry(
        home="tombola.criteria.rounds:Force",
        summary="snip in rounds of which each may bring weights back",
        source=_DE_JORGE,
    ),
    "grasp": Entry(
        home="tombola.criteria.gradients:Grasp",
        summary="weight x (Hessian x gradient): keeps what carries the gradient",
        source="Wang et al. 2020, arXiv 2002.07376",
    ),
    "synflow": Entry(
        home="tombola.criteria.synflow:SynFlow",
        summary="flow of the positive, linear network in rounds, without data",
        source="Tanaka et al. 2020, arXiv 2006.05467",
    ),
    "grad": Entry(
        home="tombola.criteria.gradients:grad",
        summary="|gradient| before training",
        source=_ZHOU,
        aliases=("gradient",),
    ),
    "taylor": Entry(
        home="tombola.criteria.gradients:Taylor",
        summary="squared first-order change of the loss, of weights or of units",
        source="Molchanov et al. 2017, arXiv 1611.06440; 2019, arXiv 1906.10771",
    ),
    "empirical_fisher": Entry(
        home="tombola.criteria.fisher:empirical_fisher",
        summary="squared gradients of single examples at their labels, times w squared",
        source="Theis et al. 2018, arXiv 1801.05787",
    ),
    "true_fisher": Entry(
        home="tombola.criteria.fisher:TrueFisher",
        summary="squared gradients of single examples at labels that the network draws, times w squared",
        source="Kunstner et al. 2019, arXiv 1905.12558",
    ),
    "movement_pruning": Entry(
        home="tombola.criteria.gradients:movement_pruning",
        summary="minus the sum of gradient x weight along the training",
        source="Sanh et al. 2020, arXiv 2005.07683",
    ),
    "supermask": Entry(
        home="tombola.criteria.learned:Supermask",
        summary="learned chances of weights that stand still (control untrained evaluates it)",
        source=_ZHOU,
    ),
    "edge_popup": Entry(
        home="tombola.criteria.learned:EdgePopup",
        summary="learned scores of weights that stand still, the best of each layer (control untrained)",
        source="Ramanujan et al. 2020, arXiv 1911.13299",
        aliases=("edge-popup",),
    ),
    "obd": Entry(
        home="tombola.criteria.second_order:Obd",
        summary="H_qq w^2 / 2 by the diagonal of the loss's Hessian, exact or estimated",
        source="LeCun et al. 1990, Optimal Brain Damage",
        aliases=("optimal_brain_damage",),
    ),
    "obs": Entry(
        home="tombola.criteria.surgeon:Obs",
        summary="w^2 / 2[H^-1]_qq by the Fisher matrix of each tensor; survivors take over what goes",
        source="Hassibi and Stork 1993, Optimal Brain Surgeon",
        aliases=("optimal_brain_surgeon",),
    ),
    "woodfisher": Entry(
        home="tombola.criteria.surgeon:WoodFisher",
        summary="as obs, with a Fisher matrix for each block of consecutive weights",
        source="Singh and Alistarh 2020, arXiv 2004.14340",
    ),
    "wanda": Entry(
        home="tombola.criteria.reconstruction:Wanda",
        summary="|w| times the norm of what it reads, ranked within its row",
        source="Sun et al. 2023, arXiv 2306.11695",
    ),
    "sparsegpt": Entry(
        home="tombola.criteria.reconstruction:SparseGpt",
        summary="column by column; later columns make up for what goes",
        source="Frantar and Alistarh 2023, arXiv 2301.00774",
    ),
    "low_variance": Entry(
        home="tombola.criteria.folding:LowVariance",
        summary="variance of w * input: what is constant goes into the bias",
        source=_SIETSMA,
    ),
    "low_variance_units": Entry(
        home="tombola.criteria.folding:LowVarianceUnits",
        summary="variance of what a unit puts out: constant units go on from their bias",
        source=_SIETSMA,
    ),
    "activation_mean": Entry(
        home="tombola.criteria.units:activation_mean",
        summary="units: mean |activation|; units that hardly speak go",
        source="Molchanov et al. 2017, arXiv 1611.06440",
    ),
    "apoz": Entry(
        home="tombola.criteria.units:apoz",
        summary="units: how often the activation is not zero",
        source="Hu et al. 2016, arXiv 1607.03250",
        aliases=("average_percentage_of_zeros",),
    ),
    "covariance_redundancy": Entry(
        home="tombola.criteria.redundancy:CovarianceRedundancy",
        summary="units: what correlates most with the rest goes first; how many, by eigenvalues",
        source="Suau et al. 2018, arXiv 1807.10585",
        aliases=("pfa", "principal_filter_analysis"),
    ),
    "mutual_information": Entry(
        home="tombola.criteria.information:MutualInformation",
        summary="units: what the layer no longer tells about the answer without one",
        source="copula estimator: Ince et al. 2017, Human Brain Mapping 38",
    ),
    "output_sensitivity": Entry(
        home="tombola.criteria.sensitivity:OutputSensitivity",
        summary="units: how far the outputs move when one is silenced (a forward pass for each)",
        source="survey: Hoefler et al. 2021, arXiv 2102.00554",
    ),
    "leave_one_out": Entry(
        home="tombola.criteria.elimination:leave_one_out",
        summary="what the network loses without a weight, looked at (a forward pass for each)",
        source="Mozer and Smolensky 1988, Skeletonization",
        aliases=("leave-one-out",),
    ),
    "greedy": Entry(
        home="tombola.criteria.elimination:Greedy",
        summary="leave-one-out again after every weight: for networks of few weights",
        source="backward elimination: Marill and Green 1963",
    ),
    "hebbian": Entry(
        home="tombola.criteria.hebbian:Hebbian",
        summary="|correlation| of what a weight reads and what its unit puts out",
        source="Hebb 1949; survey: Hoefler et al. 2021, arXiv 2102.00554",
    ),
}
"""What `--criterion` takes."""
