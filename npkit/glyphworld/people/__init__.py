"""People: who looks at GlyphWorld's pictures. All of them are simulated; nobody was asked.

`eye` (what is seen in a picture), `tastes` and `pairs` (what is liked), `public` (what a picture is worth), `votes`,
`faith` (whether the subject that was asked for is seen).
"""
