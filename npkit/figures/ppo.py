"""Figures of notebook 03_ppo: reward, KL and samples along the training."""
