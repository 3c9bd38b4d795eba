"""Draw the picture of the README from a stored experiment: python docs/picture.py EXPERIMENT [--store DIR]."""

from __future__ import annotations

import argparse
from pathlib import Path

from tombola.analysis.document import results_document
from tombola.report.figures import accuracy_versus_density
from tombola.report.summary import table
from tombola.store import Store


def main() -> None:
    """Write docs/images/NAME.png, where NAME is the recipe's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment")
    parser.add_argument("--store", default="tombola-store")
    asked = parser.parse_args()
    store = Store(asked.store, create=False)
    digest, content = store.experiment(asked.experiment)
    figure = accuracy_versus_density(table(results_document(digest, content, store)))
    target = Path(__file__).parent / "images" / f"{content['recipe']}.png"
    figure.savefig(target, dpi=110, facecolor="white", bbox_inches="tight")
    print(target)


if __name__ == "__main__":
    main()
