"""Judges: worked scores, CLIP's own preprocessing reproduced on tensors, and LAION's real head."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_models import head_state, save_clip, save_head
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.errors import NpkitError
from npkit.scoring.judges import Judge, features, load_head, load_judge, load_judges, preprocess
from npkit.study.profiles import JudgeConfig, load_profile

LAION = Path(__file__).parents[2] / "shared" / "weights"
PREFIXES, PROMPTS = ["a castle tower", "a cat"], ["a castle tower, oil painting", "a cat, pixel art"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def pickscore(folder):
    return load_judge(JudgeConfig(name="pickscore", kind="pickscore", model=str(folder)), "cpu")


def pictures(height: int = 64, width: int = 64, count: int = 2) -> torch.Tensor:
    """Return pictures with edges and gradients, in the 256 steps of a PNG."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1) * 255).round() / 255


def by_processor(batch: torch.Tensor, processor: CLIPImageProcessorPil) -> torch.Tensor:
    """Return what CLIP's own image processor makes of the pictures as PIL images."""
    images = [Image.fromarray((picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for picture in batch]
    return torch.as_tensor(np.stack(processor(images)["pixel_values"]))


@pytest.mark.parametrize("height, width, size", [(64, 64, 64), (32, 32, 64), (64, 96, 48), (130, 100, 64)])
def test_preprocess_equals_clips_processor(height, width, size):
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    batch = pictures(height, width)
    ours, theirs = preprocess(batch, processor), by_processor(batch, processor)
    assert ours.shape == theirs.shape
    step = 1 / 255 / min(processor.image_std)  # one of the 256 levels, after the division by std
    assert (ours - theirs).abs().max() <= (1e-5 if height == width == size else 1.01 * step)
    assert (ours - theirs).abs().mean() <= 0.1 * step


def test_pickscore_is_scaled_cosine_with_the_prefix(folder, pickscore):
    batch = pictures()
    got = pickscore(PREFIXES, PROMPTS, batch)
    clip = CLIPModel.from_pretrained(folder)
    tokens = pickscore_tokens(folder, PREFIXES)
    pixels = by_processor(batch, CLIPImageProcessorPil.from_pretrained(folder))
    with torch.no_grad():
        expected = clip(input_ids=tokens, pixel_values=pixels).logits_per_image.diagonal()
    assert got.shape == (2,) and torch.allclose(got, expected, atol=1e-4)
    assert torch.equal(got, pickscore(PREFIXES, PREFIXES, batch)), "the prompt must not count, the prefix does"


def test_a_model_stored_in_half_precision_computes_in_full(folder, pickscore, tmp_path):
    for part in (CLIPModel.from_pretrained(folder).half(), CLIPTokenizer.from_pretrained(folder),
                 CLIPImageProcessorPil.from_pretrained(folder)):
        part.save_pretrained(tmp_path)
    scores = load_judge(replace(pickscore.config, model=str(tmp_path)), "cpu")(PREFIXES, PROMPTS, pictures())
    assert scores.dtype == torch.float32 and torch.allclose(scores, pickscore(PREFIXES, PROMPTS, pictures()), atol=0.05)


def pickscore_tokens(folder: Path, texts: list[str]) -> torch.Tensor:
    """Return padded ids of texts."""
    return CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt").input_ids


def test_clipscore(folder):
    judge = load_judge(JudgeConfig(name="clip", kind="clipscore", model=str(folder)), "cpu")
    scale = load_judge(JudgeConfig(name="p", kind="pickscore", model=str(folder)), "cpu")(PREFIXES, PROMPTS, pictures())
    scores = judge(PREFIXES, PROMPTS, pictures())
    expected = (100 * scale / CLIPModel.from_pretrained(folder).logit_scale.exp()).clamp(min=0)
    assert torch.allclose(scores, expected.detach(), atol=1e-4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_aesthetic_head_is_an_affine_map(folder, tmp_path, suffix):
    state = head_state()
    matrix, bias = torch.eye(12), torch.zeros(12)
    for layer in (0, 2, 4, 6, 7):
        matrix = state[f"layers.{layer}.weight"] @ matrix
        bias = state[f"layers.{layer}.weight"] @ bias + state[f"layers.{layer}.bias"]
    path = save_head(tmp_path / f"head{suffix}")
    judge = load_judge(JudgeConfig(name="a", kind="aesthetic", model=str(folder), head=str(path)), "cpu")
    clip, processor = CLIPModel.from_pretrained(folder), CLIPImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        embedding = features(clip.get_image_features(pixel_values=preprocess(pictures(), processor)))
    expected = (embedding @ matrix.T + bias)[:, 0]
    assert torch.allclose(judge(PREFIXES, PROMPTS, pictures()), expected, atol=1e-3)


@pytest.mark.skipif(not LAION.exists(), reason="LAION's head is not in ../shared/weights")
def test_laions_real_head():
    head = load_head(LAION / "sac+logos+ava1-l14-linearMSE.pth")
    affine = json.loads((LAION / "laion_aesthetic_v2_affine.json").read_text())
    embeddings = torch.nn.functional.normalize(torch.randn(64, 768, generator=torch.Generator().manual_seed(0)), dim=-1)
    expected = embeddings @ torch.tensor(affine["weight"]) + affine["bias"]
    assert torch.allclose(head(embeddings)[:, 0], expected, atol=1e-4)


def test_features_of_both_return_types():
    tensor = torch.tensor([[3.0, 4.0]])
    output = type("Output", (), {"pooler_output": tensor})()
    assert features(tensor).tolist() == features(output).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def length_in_words(prompts: list[str], seed: int = 0) -> list[float]:
    return [len(prompt.split()) for prompt in prompts]


def test_text_function_reads_the_prompt():
    judge = load_judge(JudgeConfig(name="words", kind="text_function", model=f"{__name__}:length_in_words"), "cpu")
    assert judge(PREFIXES, PROMPTS, None).tolist() == [5.0, 4.0] and not judge.needs_pictures


def test_load_judges_takes_all_of_a_profile(folder, tmp_path):
    head = save_head(tmp_path / "head.safetensors")
    settings = {f"judges.{name}.model": str(folder) for name in ("pickscore", "aesthetic", "heldout")}
    settings |= {"judges.aesthetic.head": str(head), "judges.oracle.kind": "text_function",
                 "judges.oracle.model": f"{__name__}:length_in_words"}
    profile = load_profile("tiny", settings)
    assert list(load_judges(profile, "cpu")) == ["pickscore", "aesthetic", "heldout", "oracle"]


def test_fingerprint_follows_kind_and_every_file(folder, tmp_path):
    model, other = str(folder), str(save_clip(tmp_path / "clip", size=32))
    heads = [str(save_head(tmp_path / "head.safetensors")), str(save_head(tmp_path / "head.pth"))]
    configs = [*(JudgeConfig(name="a", kind=kind, model=model) for kind in ("pickscore", "clipscore")),
               JudgeConfig(name="a", kind="pickscore", model=other),
               JudgeConfig(name="a", kind="pickscore", model=model, processor=other),
               *(JudgeConfig(name="a", kind="aesthetic", model=model, head=head) for head in heads),
               *(JudgeConfig(name="a", kind="text_function", model=f"{__name__}:{function}")
                 for function in ("length_in_words", "pickscore_tokens"))]
    fingerprints = [Judge(config, length_in_words).fingerprint for config in configs]
    assert len(set(fingerprints)) == len(configs)
    assert Judge(replace(configs[0], name="b"), length_in_words).fingerprint == fingerprints[0], "a name scores nothing"


@pytest.mark.parametrize("change, words", [
    ({"model": "/nowhere/clip"}, "is a folder or a hub id"),
    ({"kind": "aesthetic", "head": "/nowhere/head.pth"}, "no aesthetic head at"),
    ({"kind": "text_function", "model": "npkit.errors:no_such_function"}, "module:function"),
    ({"kind": "text_function", "model": "no_such_module:function"}, "module:function")])
def test_bad_configs(pickscore, change, words):
    with pytest.raises(NpkitError, match=words):
        load_judge(replace(pickscore.config, **change), "cpu")


def test_a_head_with_other_keys(tmp_path):
    torch.save({"linear.weight": torch.zeros(1, 4)}, tmp_path / "head.pth")
    with pytest.raises(NpkitError, match="layers.N.weight"):
        load_head(tmp_path / "head.pth")


def test_pictures_are_required(pickscore):
    with pytest.raises(NpkitError, match="given none"):
        pickscore(PREFIXES, PROMPTS, None)
