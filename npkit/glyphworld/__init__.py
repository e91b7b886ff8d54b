"""GlyphWorld: a small painted world in which words change pictures and pictures change scores, on any laptop."""
