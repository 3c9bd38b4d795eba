"""Leagues: many ways to prune, at the same densities and under the same seeds, ranked with intervals.

`divisions` says who takes part, `entries` makes recipes of it, `estimate` what they will cost, `running` answers all
their requests together, `standings` turns the answers into numbers; `words`, `tables`, `screen`, `figures` and `page`
show them.
"""
