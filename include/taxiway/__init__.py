"""Taxiway takes a machine-learning model from a Git commit to production and keeps it good there."""
