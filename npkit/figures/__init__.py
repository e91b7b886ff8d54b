"""Figures: one function per figure; `figures.ppo.training_curves(...)` belongs to notebook 04, the base to all."""
from npkit.figures import (
    ablations,
    alarm,
    course,
    data,
    evaluation,
    glyphworld,
    neurologic,
    ppo,
    preferences,
    reward,
    sft,
)
from npkit.figures.base import VARIANT_STYLE, Figure, VariantStyle, new_figure, note_profile, picture_sheet

__all__ = ["VARIANT_STYLE", "Figure", "VariantStyle", "ablations", "alarm", "course", "data", "evaluation",
           "glyphworld", "neurologic", "new_figure", "note_profile", "picture_sheet", "ppo", "preferences", "reward",
           "sft"]
