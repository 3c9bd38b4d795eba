"""Write the tables of docs/league.md from the JSON files of leagues: python docs/league.py FILE.json ...

Each file's tables go between the lines `<!-- tables: RECIPE -->` and `<!-- end -->`; all else stays as it is.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from tombola.league.tables import markdown
from tombola.league.words import per_cent

PAGE = Path(__file__).parent / "league.md"


def filled(page: str, document: dict[str, Any]) -> str:
    """The page with the tables of one league.

    Raises:
        SystemExit: the page has no place for its recipe.
    """
    begin = f"<!-- tables: {document['recipe']} -->\n"
    place = re.compile(f"(?<={re.escape(begin)}).*?(?=<!-- end -->)", re.DOTALL)
    if not place.search(page):
        raise SystemExit(f"{PAGE} has no line {begin.strip()} with <!-- end --> after it; add them.")
    densities = ", ".join(map(per_cent, document["densities"]))
    head = (
        f"{document['model']} on {document['data']}, {document['steps']:,} steps, {document['replicates']} replicates, "
        f"densities {densities}, accuracy at {document['endpoint']}."
    )
    return place.sub(lambda _: f"\n{head} {markdown(document)}\n", page)


def main() -> None:
    """Fill in the tables of every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    page = PAGE.read_text(encoding="utf-8")
    for path in parser.parse_args().files:
        page = filled(page, json.loads(path.read_text(encoding="utf-8")))
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
