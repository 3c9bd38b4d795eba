"""Known mistakes, by the part of the package in which they are made; `tests/mutants.py` puts them back."""
