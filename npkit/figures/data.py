"""Figures of notebook 01_data_and_prefixes: lengths, splits and modifiers of the corpus."""
