"""What is said beside each figure: what to see, what the paper found, and what these rows show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tombola.analysis.curves import CurveRow, EffortRow, GapRow, LayerRow, SearchRow
from tombola.analysis.stability import BarrierRow, LineRow, OnsetRow, onsets
from tombola.analysis.success import SuccessRow
from tombola.analysis.weights import HistogramRow, InputRow
from tombola.report.columns import per_cent
from tombola.report.summary import LevelRow, has_accuracy

__all__ = ["TITLES", "Caption"]

TITLES = {
    "accuracy": "Accuracy over weights remaining",
    "early-stop": "Early stop over weights remaining",
    "learning-curves": "Learning curves",
    "gap": "Gap between training and test",
    "layers": "Weights remaining in each layer",
    "initial-weights": "Where the survivors began",
    "movement": "How far weights moved",
    "inputs": "Connections of each input",
    "one-shot": "One-shot beside iterative pruning",
    "small-dense": "Why not train the smaller network?",
    "barriers": "From one network to its sibling",
    "instability": "Stability to the order of the data",
    "effort": "What each level cost",
}
"""Figure -> title."""

_PAPER = "Frankle and Carbin (2019), a fully connected LeNet on MNIST: "
_LINEAR = "Frankle et al. (2020, linear mode connectivity): "


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A title, what to see, what the paper found (empty: nothing about it), and what is seen here (or empty)."""

    title: str
    see: str
    paper: str = ""
    here: str = ""


def accuracy(rows: Sequence[LevelRow]) -> Caption:
    """Of accuracy over density."""
    by_accuracy = has_accuracy(rows)
    way = "fall below" if by_accuracy else "rise above"
    see = (
        "Points are means over the replicates, bands their 95 % intervals, the dashed line is the dense network. "
        f"See whether the ticket stays at the dashed line while weights go, and how far its controls {way} it."
    )
    paper = (
        "tickets were more accurate than the dense network, by 0.3 percentage points at 13.5 % of the weights, "
        "and back at its accuracy at 3.6 %; randomly re-initialised, the same networks fell below the dense one from "
        "21.1 % on."
    )
    title = TITLES["accuracy"] if by_accuracy else "Lowest validation loss over weights remaining"
    return Caption(title=title, see=see, paper=_PAPER + paper if by_accuracy else "")


def early_stop(rows: Sequence[LevelRow]) -> Caption:
    """Of early stop over density."""
    return Caption(
        title=TITLES["early-stop"],
        see="The early-stop step is the step of lowest validation loss. A ticket that learns faster than the dense "
        "network lies below the dashed line.",
        paper=_PAPER + "tickets stopped 38 % earlier than the dense network at 21.1 % of the weights and as late as it "
        "at 3.6 %; randomly re-initialised networks stopped later and later as weights went.",
    )


def learning_curves(rows: Sequence[CurveRow]) -> Caption:
    """Of learning curves."""
    return Caption(
        title=TITLES["learning-curves"],
        see="Above, the loss on the validation set; below, the test set. Means over the replicates, 95 % intervals. "
        "See which tickets fall faster and further than the dense network (dashed), and whether the validation loss "
        "rises again at the end, which is overfitting.",
        paper=_PAPER
        + "down to 21 % of the weights each ticket learned faster than the one before and reached a higher "
        "test accuracy; then tickets slowed down, and at 3.6 % they learned like the dense network.",
    )


def gap(rows: Sequence[GapRow]) -> Caption:
    """Of the gap between training and test accuracy."""
    dense = next((row for row in rows if row.arm == "ticket" and row.level == 0), None)
    tickets = [row for row in rows if row.arm == "ticket" and row.level > 0]
    here = ""
    if dense and tickets:
        least = min(tickets, key=lambda row: row.gap.mean)
        here = (
            f"the dense network leads by {100 * dense.gap.mean:.2f} points on the training set, the ticket with the "
            f"smallest gap by {100 * least.gap.mean:.2f} (at {per_cent(least.density)} % of the weights)."
        )
    return Caption(
        title=TITLES["gap"],
        see="Accuracy on the training set minus that on the test set at the end of training. A smaller gap at the same "
        "training accuracy means that the network generalises better; a network too small to learn its training set "
        "has a small gap as well.",
        paper=_PAPER
        + "training accuracy came to 100 % down to 2 % of the weights, and the gap was smaller for tickets.",
        here=here,
    )


def layers(rows: Sequence[LayerRow]) -> Caption:
    """Of density per layer."""
    sparsest = [row for row in rows if row.level == max(row.level for row in rows)]
    least, most = (choose(sparsest, key=lambda row: row.layer_density) for choose in (min, max))
    here = (
        f"at {per_cent(least.density)} % of all weights, {least.layer} keeps {per_cent(least.layer_density)} % of its "
        f"own ({least.kept:,.0f}) and {most.layer} {per_cent(most.layer_density)} % ({most.kept:,.0f})."
    )
    return Caption(
        title=TITLES["layers"],
        see="A layer above the dashed line keeps more of its weights than the network as a whole. With layer-wise "
        "pruning the lines follow from the rates; with global pruning the scores decide.",
        paper="Frankle and Carbin (2019) pruned the output layer at half the rate, and deep networks globally, for "
        "there small layers become the bottleneck.",
        here=here if sparsest[0].level > 0 and len(sparsest) > 1 else "",
    )


def initial_weights(rows: Sequence[HistogramRow]) -> Caption:
    """Of the survivors' initial weights."""
    first = next(row.layer for row in rows)
    last = max(row.level for row in rows)
    all_size = _mean_size([row for row in rows if row.layer == first and row.group == "all"])
    size = _mean_size([row for row in rows if row.layer == first and row.level == last])
    ratio = f"{size / all_size:.2f}" if size and all_size else ""
    here = f"in {first} the survivors of the sparsest level shown began {ratio} times as large as all weights."
    return Caption(
        title=TITLES["initial-weights"],
        see="Weights before any training (one replicate): all of them shaded, survivors as lines. Two humps with a "
        "valley at 0 mean that weights which began large are more likely to survive.",
        paper=_PAPER + "in the first layers the survivors' initial weights had two humps, for small ones had been "
        "pruned; initial size explained survival only in part.",
        here=here if ratio else "",
    )


def movement(rows: Sequence[HistogramRow]) -> Caption:
    """Of distance and direction moved."""
    density = per_cent(rows[0].density)
    grown = {group: _grown(rows, group) for group in ("survivors", "pruned")}
    return Caption(
        title=TITLES["movement"],
        see=f"The dense training (one replicate), by whether a weight later survives to {density} % or is pruned. "
        "Left: distance between first and last value. Right: whether its absolute value grew (above 0) or shrank.",
        paper=_PAPER + "weights that survive moved further in the dense training, and most of them away from 0; the "
        "pruned ones stayed or shrank.",
        here=f"{grown['survivors']:.0%} of the survivors grew, and {grown['pruned']:.0%} of the pruned.".replace(
            "%", " %"
        ),
    )


def inputs(rows: Sequence[InputRow]) -> Caption:
    """Of connections per input."""
    last = [row for row in rows if row.level == max(row.level for row in rows)]
    idle = sum(row.connections == 0 for row in last)
    return Caption(
        title=TITLES["inputs"],
        see="Each pixel of the input (one replicate), coloured by how many weights of the first layer still read it; "
        "each picture has its own scale. Bright places are those that the ticket looks at.",
        paper=_PAPER + "the pixels at the border, which carry nothing, lost their connections; those in the middle "
        "kept theirs.",
        here=f"at {per_cent(last[0].density)} % of the weights, {idle} of {len(last)} pixels have no connection left.",
    )


def one_shot(rows: Sequence[SearchRow]) -> Caption:
    """Of one-shot beside iterative."""
    return Caption(
        title=TITLES["one-shot"],
        see="Tickets found by pruning a little and training again, many times (iterative), beside those cut at once "
        "from the dense training (one-shot), at the same weights remaining.",
        paper=_PAPER
        + "one-shot tickets stopped earlier than the dense network from 67.5 % down to 17.6 % of the weights "
        "and were more accurate from 95 % down to 5.2 %; iterative ones stayed good at smaller sizes.",
    )


def small_dense(rows: Sequence[SuccessRow]) -> Caption:
    """Of success rates."""
    last = max(row.level for row in rows)
    words = " and ".join(
        f"{row.successes} of {row.fits} {'tickets' if row.arm == 'ticket' else 'small dense networks'}"
        for row in rows
        if row.level == last
    )
    return Caption(
        title=TITLES["small-dense"],
        see="A small dense network has the same layers, made narrower until it has no more weights than the ticket. "
        "See how often each comes within the margin of the whole network, over all its initialisations.",
        here=f"At the sparsest level {words} did.",
    )


def barriers(rows: Sequence[LineRow]) -> Caption:
    """Of errors between children."""
    normed = any(row.recomputed for row in rows)
    return Caption(
        title=TITLES["barriers"],
        see="Two children are trained from the same state under different data orders and noise; alpha walks in a "
        "straight line from one (0) to the other (1). A flat line: they ended in the same valley. A hill: the order of "
        "the data decided which valley it was. Means over pairs and replicates."
        + (" Dotted: batch-norm statistics interpolated too, where the full lines have them anew." if normed else ""),
        paper=_LINEAR + "networks without stability came to the error of chance on the way.",
    )


def instability(rows: Sequence[BarrierRow]) -> Caption:
    """Of barriers over the step."""
    found = [f"{_network(row)} {_from(row.test)}" for row in onsets(rows)]
    return Caption(
        title=TITLES["instability"],
        see="The barrier is the highest error on the line between two children minus the mean of its ends. Below 2 % "
        "(dashed) a network is stable: from that step on, the order of the data no longer decides where it ends.",
        paper=_LINEAR + "LeNet on MNIST was stable from step 0 on, ResNet-20 from step 2,000 and its tickets from step "
        "500; tickets matched the dense network where they were stable.",
        here=f"{'; '.join(found)}.",
    )


def _network(row: OnsetRow) -> str:
    if row.arm == "dense":
        return "the dense network is"
    return f"the {'ticket' if row.arm == 'ticket' else 'shuffled mask'} at {per_cent(row.density)} % is"


def _from(step: int | None) -> str:
    return "stable from no step studied" if step is None else f"stable from step {step:,} on"


def effort(rows: Sequence[EffortRow]) -> Caption:
    """Of time and steps."""
    seconds, steps = sum(row.seconds for row in rows), sum(row.steps for row in rows)
    return Caption(
        title=TITLES["effort"],
        see="All replicates together. Time is of computing, summed over processes, whenever a training was made; what "
        "several experiments share counts in each. A search pays for every level before it.",
        here=f"{sum(row.fits for row in rows):,} trainings, {steps:,} steps, {_duration(seconds)} of computing.",
    )


def _duration(seconds: float) -> str:
    if seconds < 180:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} hours"


def _mean_size(rows: Sequence[HistogramRow]) -> float:
    return sum(row.share * abs(row.low + row.high) / 2 for row in rows)


def _grown(rows: Sequence[HistogramRow], group: str) -> float:
    """The share of a group, over all layers shown, whose size grew."""
    layers = {row.layer: row for row in rows if row.group == group and row.measure == "growth"}.values()
    return sum(row.positive for row in layers) / max(1, sum(row.total for row in layers))
