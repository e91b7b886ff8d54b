"""The ideal painter behind the interface of every other image model."""
import numpy as np
import pytest
import torch

from npkit.errors import NpkitError
from npkit.glyphworld.painter import paint
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.people.eye import HEADS, load_eye, look
from npkit.glyphworld.people.public import FOLDER
from npkit.glyphworld.vocabulary import SUBJECTS
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import to_bytes
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


def test_the_diffusion_model_paints_the_subjects_that_it_is_asked_for():
    model = load(model="npkit/glyphworld/weights/diffusion", num_inference_steps=6, batch_size=33)
    prompts = [f"a {name}" for name in SUBJECTS]
    pictures = to_bytes(model.render(prompts, range(len(prompts))))
    eye, _ = load_eye(FOLDER)
    seen = [HEADS["subject"][index] for index in look(eye, pictures).subject.argmax(1)]
    missed = [f"{asked} looks like {found}" for asked, found in zip(SUBJECTS, seen, strict=True) if asked != found]
    assert len(missed) <= 3, missed
    again = to_bytes(model.render(prompts[:1], [0]))
    assert np.array_equal(again[0], pictures[0]), "a picture depends on its prompt and seed alone"


def test_wrong_names_and_sizes_are_refused():
    with pytest.raises(NpkitError, match="module:class"):
        load(model="npkit.glyphworld.painter:Nobody")
    with pytest.raises(ValueError, match="96 x 96"):
        load(height=64, width=64).render(["a cat"], [0])


@pytest.mark.parametrize("name", ["npkit.glyphworld.painter:Words", "npkit.glyphworld.painter:paint",
                                  "diffusers:StableDiffusionPipeline", ":IdealPainter"])
def test_what_is_no_pipeline_of_its_own_is_refused(name):
    with pytest.raises(NpkitError, match="images.model"):
        load(model=name)


def test_two_pipelines_of_a_module_have_fingerprints_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "two_painters.py").write_text("from npkit.glyphworld.painter import IdealPainter\n\n\n"
                                              "class One(IdealPainter):\n    pass\n\n\n"
                                              "class Other(IdealPainter):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    one, other = (load(model=f"two_painters:{name}") for name in ("One", "Other"))
    assert one.fingerprint != other.fingerprint


def test_nobody_can_paint_over_a_picture_that_others_get():
    with pytest.raises(ValueError, match="read-only"):
        paint("a cat", 0)[:] = 0
