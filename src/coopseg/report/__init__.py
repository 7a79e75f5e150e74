"""Trainings, evaluations and benchmarks on one page."""
