"""Known mistakes in the store, identities and random streams."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="identity leaves out defaults",
        file="specs.py",
        good='        if field.metadata.get("identity", True) and not',
        bad='        if field.metadata.get("identity", True) and content != field.default and not',
        tests="tests/test_specs.py",
    ),
    Mutant(
        name="a finished level is used for another pair of train and evaluate",
        file="shelf.py",
        good='        said = {"key": self.key, "start"',
        bad='        said = {"key": "", "start"',
        tests="tests/test_finding_store.py",
    ),
    Mutant(
        name="a damaged level is used",
        file="shelf.py",
        good="        if hashlib.sha256(data).hexdigest() != sha256:\n",
        bad="        if False:\n",
        tests="tests/test_finding_store.py",
    ),
)
