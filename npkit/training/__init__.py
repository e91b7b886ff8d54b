"""Training: supervised fine-tuning, then PPO or its alternatives."""
