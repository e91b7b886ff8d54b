"""Figures of notebook 00_glyphworld: what words do to pictures, and how raters judge them."""
