"""GlyphWorld: the small world in which the study runs on a laptop. Nothing in it knows of the study.

Read in this order: `vocabulary` (the words), `corpus` (prompts written and read back), `painting` (a scene becomes a
picture), `people` (who looks at pictures, and what they like), `training` (the models that learn all this), `train` and
`measure` (the commands that make the weights and their model card), `painter` (the renderer as an image model).
"""
