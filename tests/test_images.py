"""Pictures: the same whatever is painted beside them, in the range of a PNG, and never truncated in silence."""
import copy
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from fixtures_models import save_pipeline
from huggingface_hub import constants

from npkit.errors import NpkitError, PromptTooLong
from npkit.scoring.images import ImageModel, identity, in_full_batches, load_image_model
from npkit.study.profiles import ImagesConfig

PROMPTS = ["a castle tower", "a snowman, pixel art", "a cat by van gogh", "a cat", "a snowman"]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> ImagesConfig:
    folder = save_pipeline(tmp_path_factory.mktemp("diffusion"))
    return ImagesConfig(model=str(folder), num_inference_steps=3, guidance_scale=3.0, height=32, width=32, batch_size=4)


@pytest.fixture(scope="module")
def image_model(config):
    return load_image_model(config, "cpu")


def test_shape_and_range(image_model):
    pictures = image_model.render(PROMPTS, [0] * 5)
    assert pictures.shape == (5, 3, 32, 32) and pictures.dtype == torch.float32
    assert pictures.min() >= 0 and pictures.max() <= 1 and pictures.std() > 0.01
    assert torch.equal(pictures, (pictures * 255).round() / 255)


def test_same_picture_in_any_company(image_model):
    pictures = image_model.render(PROMPTS, [7, 8, 9, 10, 11])
    alone = image_model.render(PROMPTS[2:3], [9])
    reversed_ = image_model.render(PROMPTS[::-1], [11, 10, 9, 8, 7]).flip(0)
    assert torch.equal(pictures[2:3], alone) and torch.equal(pictures, reversed_)


def test_seed_and_prompt_both_matter(image_model):
    one, other_seed, other_prompt = image_model.render(["a cat", "a cat", "a castle tower"], [0, 1, 0])
    assert not torch.equal(one, other_seed) and not torch.equal(one, other_prompt)


def test_global_random_state_is_untouched(image_model):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    image_model.render(["a cat"], [0])
    assert torch.equal(torch.rand(3), expected)


def test_long_prompts_are_counted_or_refused(image_model):
    long, before = ", ".join(["castle"] * 40), image_model.num_truncated
    image_model.render([long, "a cat"], [0, 0])
    assert image_model.num_truncated == before + 1
    assert image_model.truncated_share([long, "a cat", "a snowman", "a castle"]) == 0.25
    with pytest.raises(PromptTooLong, match="takes 24"):
        image_model.check_length(["a cat", long])
    image_model.check_length(["a cat"])


@pytest.mark.parametrize("change", [
    {"num_inference_steps": 4}, {"guidance_scale": 4.0}, {"height": 64}, {"width": 64}, {"batch_size": 2},
    {"dtype": "float16"}, {"scheduler": "EulerDiscreteScheduler"}, {"revision": "v2"}])
def test_fingerprint_follows_every_setting_that_changes_pixels(config, image_model, change):
    same, other = (ImageModel(image_model.pipeline, replace(config, **setting)) for setting in ({}, change))
    assert same.fingerprint == image_model.fingerprint != other.fingerprint


def test_fingerprint_follows_weights_sampler_and_threads(config, image_model, tmp_path, monkeypatch):
    before = image_model.fingerprint
    assert load_image_model(config, "cpu").fingerprint == before
    pipeline = copy.copy(image_model.pipeline)
    pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert ImageModel(pipeline, config).fingerprint != before, "a scheduler that no setting names"
    shutil.copytree(config.model, tmp_path / "model")
    elsewhere = replace(config, model=str(tmp_path / "model"))
    assert ImageModel(image_model.pipeline, elsewhere).fingerprint == before, "a copy is the same model"
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert identity(str(tmp_path / "model")) != identity(config.model)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert image_model.fingerprint != before, "another number of threads rounds otherwise"


def test_identity_of_a_hub_model_is_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert identity("org/model") == "org/model@main"
    refs = tmp_path / "models--org--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123")
    assert identity("org/model") == "org/model@abc123"
    assert identity("org/model:head.pth") == "org/model:head.pth@abc123"
    assert identity("org/model", "v2") == "org/model@v2"


def test_a_revision_is_loaded_from_the_hubs_cache(config, image_model, tmp_path, monkeypatch):
    """Without a network: a hub cache as huggingface_hub lays it out, with one revision that is not main."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--org--painter"
    shutil.copytree(config.model, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "v2").write_text("0123abc")
    there, missing = (replace(config, model="org/painter", revision=revision) for revision in ("v2", "v3"))
    assert torch.equal(load_image_model(there, "cpu").render(["a cat"], [0]), image_model.render(["a cat"], [0]))
    assert identity("org/painter", "v2") == "org/painter@0123abc"
    with pytest.raises(NpkitError, match="images.model 'org/painter' is no diffusers pipeline"):
        load_image_model(missing, "cpu")


def test_not_a_pipeline(config, tmp_path):
    with pytest.raises(NpkitError, match="no diffusers pipeline"):
        load_image_model(replace(config, model=str(tmp_path)), "cpu")
    with pytest.raises(NpkitError, match="images.dtype"):
        load_image_model(replace(config, dtype="half precision"), "cpu")
    with pytest.raises(NpkitError, match="images.scheduler is a scheduler class"):
        load_image_model(replace(config, scheduler="AutoencoderKL"), "cpu")


def test_another_scheduler_keeps_the_noise_schedule(config, image_model):
    euler = load_image_model(replace(config, scheduler="EulerDiscreteScheduler"), "cpu").pipeline.scheduler
    assert type(euler).__name__ == "EulerDiscreteScheduler"
    assert euler.config.beta_end == image_model.pipeline.scheduler.config.beta_end


def test_full_batches():
    sizes = []

    def double(numbers):
        sizes.append(len(numbers))
        return 2 * torch.tensor(numbers)

    assert in_full_batches(double, 3, [1, 2, 3, 4]).tolist() == [2, 4, 6, 8] and sizes == [3, 3]
