"""A page of diverse networks, each with its pattern and its graph, in one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import torch

from tombola.motifs.drawing import card
from tombola.motifs.dynamics import Dynamics
from tombola.motifs.population import Found
from tombola.report.page import rendered

__all__ = ["page", "unlike"]

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style }}
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.25rem; }
.cards img { display: block; width: 100%; height: auto; border-radius: .375rem; }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<p class="headline">{{ headline }}</p>
<p>Left: gene 1 in {{ cells }} cells (across) over time (upwards), dark is 0, yellow is 1. Right: who acts on whom;
red activates, blue represses, the width is the weight; the ring around a gene is the morphogen's action on it, the
yellow gene is read. Genes without a path to gene 1 are faint.</p>
{% if cards %}
<div class="cards">
{% for card in cards %}
<figure>
<img src="data:image/png;base64,{{ card.picture }}" alt="{{ card.words }}" width="460" height="220">
<figcaption>{{ card.words }}</figcaption>
</figure>
{% endfor %}
</div>
{% else %}
<p>No network was found that is worth showing.</p>
{% endif %}
</main>
</body>
</html>
"""


def unlike(found: Sequence[Found], most: int) -> list[Found]:
    """Networks far from each other: the best one, then again and again the one least like those before it.

    Likeness goes by the signs of weights, boundaries, and number of edges: the distance is the share of weights of
    another sign, plus 1/25 for each boundary and 1/genes^2 for each edge that two networks differ by. Of equally far
    ones the one with the larger reward comes first.

    Args:
        found: networks of the same number of genes.
        most: how many at most, 0 or more.

    >>> from tombola.motifs.seeds import MOTIFS
    >>> one = Found(network=MOTIFS["2b"].network, reward=9.0, boundaries=5)
    >>> two = Found(network=MOTIFS["2b"].network, reward=8.0, boundaries=5)
    >>> other = Found(network=MOTIFS["2b"].network.transposed(), reward=3.0, boundaries=6)
    >>> unlike([two, one, other], 2) == [one, other]
    True
    """
    rest = sorted(found, key=lambda one: -one.reward)[:]
    if not rest or most < 1:
        return []
    signs = torch.tensor([one.signs for one in rest], dtype=torch.float64).flatten(1)
    square = signs.shape[1]
    edges = torch.tensor([one.edges for one in rest], dtype=torch.float64)
    boundaries = torch.tensor([one.boundaries for one in rest], dtype=torch.float64)

    def away(place: int) -> torch.Tensor:
        other = (signs != signs[place]).double().mean(1)
        return other + (boundaries - boundaries[place]).abs() / 25 + (edges - edges[place]).abs() / square

    chosen, nearest = [0], away(0)
    while len(chosen) < min(most, len(rest)):
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, away(chosen[-1]))
    return [rest[place] for place in chosen]


def page(found: Sequence[Found], dynamics: Dynamics, *, title: str, headline: str) -> str:
    """An HTML page with a card for each network, in order; it loads nothing from elsewhere.

    Args:
        found: networks.
        dynamics: under which they are drawn.
        title, headline: what stands above them.
    """
    cards = [
        {
            "picture": _picture(one, dynamics),
            "words": f"Reward {one.reward:.1f}, {one.edges} edge{'s' * (one.edges != 1)}, "
            f"{one.boundaries} boundar{'y' if one.boundaries == 1 else 'ies'}",
        }
        for one in found
    ]
    return rendered(_TEMPLATE, title=title, headline=headline, cells=dynamics.cells, cards=cards)


def _picture(one: Found, dynamics: Dynamics) -> str:
    buffer = io.BytesIO()
    card(one.network, dynamics).savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()
