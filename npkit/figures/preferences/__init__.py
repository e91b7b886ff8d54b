"""Figures of notebook 09_human_preference: votes counted, and a judge before and after it learnt from them."""
from npkit.figures.preferences.learning import JUDGE_STYLES, learnt
from npkit.figures.preferences.voting import judge_agreement, raters, strengths, win_rates

__all__ = ["JUDGE_STYLES", "judge_agreement", "learnt", "raters", "strengths", "win_rates"]
