"""Scoring: from a prompt to pictures, from pictures to scores, from scores to the reward."""
