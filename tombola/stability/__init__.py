"""Stability of an experiment's networks to the order of the data: what is asked, trained, kept and read again."""
