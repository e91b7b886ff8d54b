"""Painting: a scene becomes a picture. `renderer` is the way in; each category of modifiers owns one aspect.

`canvas` (pixels and colours), `glyphs` (the subjects' outlines), `layouts` (perspective), `grounds` (artist), `drawing`
(style), `weather` (vibe), `finishes` (booster), `formats` (format), `guard` (the subject stays legible), `renderer`.
"""
