"""Figures of notebook 05_evaluation: gains with intervals, score distributions, judges compared."""
