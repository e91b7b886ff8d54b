"""The ideal painter behind the interface of every other image model."""
import numpy as np
import pytest
import torch

from npkit.errors import NpkitError
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.scoring.images import load_image_model
from npkit.study.profiles import ImagesConfig

NAME = "npkit.glyphworld.painter:IdealPainter"


def load(**changes):
    settings = {"model": NAME, "height": 96, "width": 96, "batch_size": 4, "num_inference_steps": 1,
                "guidance_scale": 1.0} | changes
    return load_image_model(ImagesConfig(**settings), "cpu")


def test_it_paints_what_the_renderer_renders():
    model = load()
    pictures = model.render(["a cat, vivid", "a dragon", "a red cow"], [3, 4, 5])
    assert pictures.shape == (3, 3, 96, 96)
    wanted = render(Scene("cat", ("vivid",)), np.random.default_rng(3)).pixels
    assert torch.equal((pictures[0] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(wanted))
    assert pictures[1].std() == 0  # no subject that it knows: an empty sheet
    assert model.num_truncated == 0
    model.check_length(["a cat, " * 20])


def test_its_pixels_are_identified_by_the_worlds_source():
    assert load().fingerprint == load().fingerprint
    assert len(load().fingerprint) == 12


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(NpkitError, match="module:class"):
        load(model="npkit.glyphworld.painter:Nobody")
    with pytest.raises(ValueError, match="96 x 96"):
        load(height=64, width=64).render(["a cat"], [0])
