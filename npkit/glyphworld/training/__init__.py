"""Training of GlyphWorld's models: `dataset` (captioned renders), `loop` (one optimiser for all of them),
`autoencoder` and `diffusion` (the image model), `judges` (CLIP, PickScore and the aesthetic head).
"""
