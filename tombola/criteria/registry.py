"""The criteria by name, listed without importing torch."""

from __future__ import annotations

from tombola.registry import Entry

__all__ = ["CRITERIA"]

_FRANKLE = "Frankle and Carbin 2019, arXiv 1803.03635"
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
}
"""What `--criterion` takes."""
