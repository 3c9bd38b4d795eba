"""Analyses: stored experiments become tables."""
