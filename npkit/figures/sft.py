"""Figures of notebook 02_sft: learning curves and samples of the SFT policy."""
