"""Training of GlyphWorld's models: `dataset` (captioned renders), `loop` (one optimiser for all of them),
`autoencoder` and `diffusion` (the image model), `judges` (CLIP, PickScore and the aesthetic head), `preferences` (the
small judge of lesson 03, and the search for its mistakes).
"""
