"""Training of GlyphWorld's models: the loop, the losses, the votes, and the whole chain in toy sizes."""
import copy
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from npkit.glyphworld import measure, train
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.people import votes
from npkit.glyphworld.people.eye import Eye, save_eye, to_signed
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.training import autoencoder, diffusion
from npkit.glyphworld.training import judges as judge_training
from npkit.glyphworld.training import loop as training
from npkit.glyphworld.training.dataset import caption, sample_scene
from npkit.glyphworld.training.diffusion import build_tokenizer, encode_text, learn_tokenizer
from npkit.glyphworld.training.loop import Machine
from npkit.glyphworld.training.reading import train_reader
from npkit.glyphworld.vocabulary import CATEGORY_OF, MODIFIERS, SUBJECTS


# 1. The loop ---------------------------------------------------------------------------------------------------------
class Killed(Exception):
    """Raised where a test kills a training."""


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path):
    def train(folder, kill_at: int = 0) -> nn.Module:
        torch.manual_seed(0)
        model, calls = nn.Linear(3, 1), []

        def loss_of(generator: torch.Generator) -> torch.Tensor:
            calls.append(1)
            if len(calls) == kill_at:
                raise Killed
            return model(torch.randn(8, 3, generator=generator)).square().mean()

        return training.fit("line", model, loss_of, folder, steps=9, learning_rate=0.1, save_every=4)

    whole = train(tmp_path / "whole")
    with pytest.raises(Killed):
        train(tmp_path / "killed", kill_at=7)
    assert torch.equal(train(tmp_path / "killed").weight, whole.weight)


def test_contrastive_loss_of_a_perfect_and_of_a_blind_model():
    eye = torch.eye(4)
    assert judge_training.contrastive_loss(eye, eye, torch.tensor(50.0)).item() == pytest.approx(0, abs=1e-6)
    assert judge_training.contrastive_loss(eye, eye, torch.tensor(0.0)).item() == pytest.approx(math.log(4))


def test_preference_loss_is_the_softmax_over_two_pictures():
    first, second = torch.tensor([[2.0, 2.0]]), torch.tensor([[1.0, 2.0]])
    loss = judge_training.preference_loss(first, second, torch.tensor([[1.0, 0.0]]))
    softmax = math.exp(2) / (math.exp(2) + math.exp(1))
    assert loss.item() == pytest.approx((-math.log(softmax) + math.log(2)) / 2)


def test_raters_are_asked_for_shares_of_their_votes():
    shares = judge_training.ask(torch.tensor([40.0, 0.0] * 2000), torch.zeros(4000), torch.Generator().manual_seed(0))
    assert (shares[::2] == 1).all()
    assert shares[1::2].mean() == pytest.approx(0.5, abs=0.02)
    assert (shares * judge_training.NUM_RATERS % 1 == 0).all()


def test_words_of_a_prompt_and_a_picture_that_shows_them(monkeypatch):
    words = list(judge_training.WORDS)
    present = judge_training.words_present(["a red cat, pixel art, photograph, by claude monet", "a moon"])
    assert [[words[i] for i in row.nonzero().flatten()] for row in present] == [
        ["claude monet", "pixel art", "cat"], ["moon"]]
    each = torch.eye(len(words))  # a CLIP that gives every word a direction of its own
    monkeypatch.setattr(judge_training, "embed_texts", lambda clip, input_ids: each[input_ids])
    fitting, other = (judge_training.word_loss(None, each[[words.index(word)]], torch.arange(len(words)), present[1:])
                      for word in ("moon", "cat"))
    assert fitting < other


def test_the_tokenizer_is_learnt_once(tmp_path):
    first = learn_tokenizer(tmp_path, ["a cat, pixel art", "a moon, moody"])
    again = learn_tokenizer(tmp_path, ["other words that would give another vocabulary"])
    assert again.get_vocab() == first.get_vocab()


def test_ratings_stay_on_the_scale():
    ratings = judge_training.rate(torch.tensor([-9.0, 0.0, 9.0]), 0.0, torch.Generator())
    assert ratings.tolist() == [1, 5, 10]


def test_aesthetic_head_has_the_keys_of_laions():
    shapes = {name: tuple(tensor.shape) for name, tensor in judge_training.Head(128).state_dict().items()}
    assert [name for name in shapes if name.endswith("weight")] == [f"layers.{n}.weight" for n in (0, 2, 4, 6, 7)]
    assert shapes["layers.0.weight"][1] == 128
    assert shapes["layers.7.weight"][0] == 1


def test_groups_share_their_prefix_and_are_worth_what_is_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(votes, "GROUPS_A_CHUNK", 3)
    save_eye(Eye(), tmp_path / "eye", {name: (0.0, 1.0) for name in votes.POPULATIONS})
    painted = []

    def painter(prompts: list[str], seeds: list[int]) -> np.ndarray:
        painted.extend(prompts)
        return np.full((len(prompts), 96, 96, 3), 40, np.uint8)

    cast = votes.load_votes(tmp_path, 2, painter, tmp_path / "eye")
    assert cast.pictures.shape == (6, 4, 96, 96, 3)
    assert cast.prompts[12:] == painted
    for row, prefix in enumerate(cast.prefixes):
        assert cast.prompts[4 * row] == prefix
        assert all(prompt.startswith(prefix) for prompt in cast.prompts[4 * row:4 * row + 4])
    assert np.ptp(cast.utilities["public"][3]) < 1e-5  # four equal pictures: their words are not read
    assert cast.utilities["critics"][1] == pytest.approx(
        utility(cast.pictures[1], [cast.prefixes[1]] * 4, "critics", tmp_path / "eye"))
    again = votes.load_votes(tmp_path, 2, painter, tmp_path / "eye")
    assert len(painted) == 12  # the second time everything is read
    assert (again.utilities["critics"] == cast.utilities["critics"]).all()


def test_a_saved_judge_is_loaded_by_from_pretrained(tmp_path):
    cat = render(Scene("cat"), np.random.default_rng(0)).pixels
    captions = [f"a {subject}, {name}" for subject, name in zip(SUBJECTS, MODIFIERS, strict=False)]
    tokenizer = build_tokenizer(captions)
    clip = judge_training.build_clip(tokenizer, seed=1).eval()
    judge_training.save_judge(clip, tokenizer, tmp_path)
    loaded = CLIPModel.from_pretrained(tmp_path).eval()
    ids = encode_text(CLIPTokenizer.from_pretrained(tmp_path), captions[:2])
    with torch.no_grad():
        texts = judge_training.embed_texts(clip, encode_text(tokenizer, captions[:2]))
        padded = nn.functional.normalize(loaded.get_text_features(ids).pooler_output, dim=-1)
        pixels = to_signed(torch.from_numpy(cat[None]))
        prepared = CLIPImageProcessorPil.from_pretrained(tmp_path)(cat, return_tensors="pt").pixel_values
    assert torch.allclose(texts, padded, atol=1e-5)  # padding after the end mark changes nothing
    assert torch.allclose(pixels, prepared, atol=1e-6)


# 2. Networks ---------------------------------------------------------------------------------------------------------
def test_a_training_that_is_out_of_time_is_saved_and_goes_on(tmp_path):
    def run(folder, seconds: float) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def loss_of(generator: torch.Generator) -> torch.Tensor:
            return model(torch.randn(8, 3, generator=generator)).square().mean()

        machine = Machine(seconds=seconds)
        return training.fit("line", model, loss_of, folder, steps=3, learning_rate=0.1, machine=machine)

    for _ in range(2):
        with pytest.raises(training.OutOfTime):
            run(tmp_path / "pieces", 0)
    assert torch.equal(run(tmp_path / "pieces", 0).weight, run(tmp_path / "whole", math.inf).weight)


def test_an_autoencoder_takes_over_what_fits(tmp_path):
    first = autoencoder.build_autoencoder((16, 32, 48), 4)
    nn.init.constant_(first.encoder.conv_in.weight, 0.25)
    nn.init.constant_(first.decoder.up_blocks[-1].resnets[0].conv1.weight, 0.5)
    nn.init.constant_(first.encoder.conv_out.bias, 1.0)
    nn.init.constant_(first.encoder.conv_out.bias[4:], 2.0)  # of the log-variances
    first.save_pretrained(tmp_path)
    wider = autoencoder.build_autoencoder((16, 32, 48), 8, start=tmp_path)
    assert wider.encoder.conv_out.bias.view(2, 8)[:, :4].tolist() == [[1.0] * 4, [2.0] * 4]
    assert (wider.encoder.conv_in.weight == 0.25).all()
    assert (wider.decoder.up_blocks[-1].resnets[0].conv1.weight == 0.5).all()
    with torch.no_grad():
        latents = wider.encode(torch.zeros(1, 3, 96, 96)).latent_dist.mean
        assert latents.shape == (1, 8, 24, 24)
        assert wider.decode(latents).sample.shape == (1, 3, 96, 96)


def test_edges_count_in_the_second_part():
    flat, stripes = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    stripes[..., ::2] = 0.2
    even = torch.full_like(flat, 0.1)  # the same mean error as the stripes
    assert autoencoder.picture_loss(even, flat, 1.0) == pytest.approx(autoencoder.picture_loss(even, flat, 0.0))
    assert autoencoder.picture_loss(stripes, flat, 1.0) > autoencoder.picture_loss(stripes, flat, 0.0) + 0.15


def small_denoiser() -> diffusion.Denoiser:
    """A denoiser of 4 latent channels with a random text encoder."""
    shape = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 64, "eos_token_id": 49}
    return diffusion.Denoiser(CLIPTextModel(CLIPTextConfig(**shape)), (16, 16, 16), 4)


def small_examples() -> diffusion.Examples:
    return diffusion.Examples(torch.randn(8, 4, 24, 24), torch.randint(0, 48, (8, 64)), torch.rand(8, 24, 24),
                              torch.full((1, 64), 49))


def test_a_reader_learns_what_captions_name(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(200)]
    captions = [caption(scene, rng) for scene in scenes]
    tokens = build_tokenizer(captions)
    ids = encode_text(tokens, captions)
    train_reader(scenes, ids, len(tokens), tmp_path, steps=1)
    (tmp_path / "reader.pt").rename(tmp_path / "first.pt")
    encoder = train_reader(scenes, ids, len(tokens), tmp_path, steps=50)
    losses = [torch.load(tmp_path / name, weights_only=True)["running"] for name in ("first.pt", "reader.pt")]
    assert losses[1] < losses[0] / 2
    assert encoder(ids[:2]).last_hidden_state.shape == (2, 64, 128)


def test_noise_is_added_so_that_the_velocity_leads_back():
    latents, noise = torch.randn(8, 4, 24, 24), diffusion.Noise(training.CPU)
    noisy, timesteps, velocity = noise.add(latents, torch.Generator().manual_seed(0))
    back = noise.alphas[timesteps] * noisy - noise.sigmas[timesteps] * velocity
    assert torch.allclose(back, latents, atol=1e-4)
    assert (timesteps[::2] >= 500).all()


def test_an_error_on_the_subject_costs_more_than_one_beside_it():
    masks = torch.zeros(1, 24, 24)
    masks[:, :12] = 1
    on, beside = torch.zeros(1, 8, 24, 24), torch.zeros(1, 8, 24, 24)
    on[:, :, :12], beside[:, :, 12:] = 1, 1
    losses = [diffusion.velocity_loss(each, torch.zeros_like(each), masks).item() for each in (on, beside)]
    assert losses[0] / losses[1] == pytest.approx(diffusion.SUBJECT_WEIGHT)
    everywhere = diffusion.velocity_loss(torch.ones(1, 8, 24, 24), torch.zeros(1, 8, 24, 24), masks)
    assert everywhere == pytest.approx(1 + diffusion.COARSE_WEIGHT)
    checks = torch.ones(1, 8, 24, 24)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1  # of mean 0
    assert diffusion.velocity_loss(checks, torch.zeros_like(checks), masks) == pytest.approx(1.0)


def test_the_text_encoder_stays_as_the_reader_left_it(tmp_path):
    denoiser, examples = small_denoiser(), small_examples()
    before = copy.deepcopy(denoiser.state_dict())
    after = diffusion.train_denoiser(denoiser, examples, tmp_path, "denoiser", steps=2, batch_size=4).state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"unet"}


def test_a_student_of_guidance_one_is_already_perfect(tmp_path):
    teacher = small_denoiser()
    student = diffusion.distil_guidance(teacher, small_examples(), tmp_path, steps=1, batch_size=4, guidance=1.0)
    assert torch.load(tmp_path / "guidance.pt", weights_only=True)["running"] < 1e-8
    assert sum(parameter.numel() for parameter in student.parameters()) == \
        sum(parameter.numel() for parameter in teacher.parameters())


# 3. The whole chain --------------------------------------------------------------------------------------------------
def card_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The model card's table of the models in `folder / "weights"`, measured on next to nothing."""
    monkeypatch.setattr(votes, "GROUPS_A_CHUNK", 2)
    monkeypatch.setattr(measure, "NUM_KNOWN", 12)
    return measure.markdown(measure.measure(folder, folder / "weights", Machine(processes=1), num_renders=40, steps=2,
                                            num_scenes=4, num_seeds=1))


def test_the_whole_chain_runs_in_toy_sizes(tmp_path, capsys, monkeypatch):
    arguments = ["--toy", "--threads", "1", "--scratch", str(tmp_path / "scratch"), "--out", str(tmp_path / "weights")]
    train.main([*arguments, "--minutes", "0"])
    assert "goes on" in capsys.readouterr().out
    train.main([*arguments, "--pack", str(tmp_path / "packed")])
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "weights" / "diffusion")
    assert pipeline.unet.config.sample_size * 2 ** (len(pipeline.vae.config.block_out_channels) - 1) == 96
    for judge in (*judge_training.JUDGES, "aesthetic-tiny"):
        assert CLIPModel.from_pretrained(tmp_path / "weights" / judge).config.vision_config.image_size == 96
    worth = utility(np.zeros((1, 96, 96, 3), np.uint8), ["a cat"], folder=tmp_path / "weights" / "eye")
    assert np.isfinite(worth).all()
    files = sorted((tmp_path / "packed").iterdir())
    assert len(files) <= 8
    assert max(file.stat().st_size for file in files) < 16e6
    assert sum(path.stat().st_size for path in (tmp_path / "weights").rglob("*.safetensors")) < 24e6
    names = []
    for file in files:
        with tarfile.open(file) as archive:
            names += archive.getnames()
    assert "diffusion/unet/diffusion_pytorch_model.safetensors" in names
    train.main(arguments)  # nothing is left to do
    train.main([*arguments[:-1], str(tmp_path / "renders alone"), "--without-diffusion"])
    assert {path.name for path in (tmp_path / "renders alone").iterdir()} == {
        "eye", "aesthetic-tiny", *judge_training.JUDGES}
    with pytest.raises(SystemExit, match="holds a training of other sizes"):
        train.main([*arguments, "--scale", "2"])
    card = card_of(tmp_path, monkeypatch)
    assert "| subject recognised, generated, 6 modifiers |" in card
    assert "| pickscore-tiny-3 agrees with a vote, generated pictures |" in card


# 4. Measurements -----------------------------------------------------------------------------------------------------
def test_thresholds_part_the_two_kinds():
    seen = np.linspace(0, 1, 100)[:, None]
    (limit,) = measure.thresholds(seen, seen > 0.6)
    assert 0.58 < limit < 0.63


def test_agreement_of_a_perfect_judge_beats_a_rater():
    worth = np.random.default_rng(0).normal(size=(30, 4))
    cast = votes.VoteSet(["a cat"] * 30, [], np.zeros(0), {"public": worth})
    by_judge, by_rater, pairs = measure.agreement(worth, cast, "public")
    assert pairs == 180
    assert by_judge > by_rater > 0.5
    assert measure.agreement(-worth, cast, "public")[0] == pytest.approx(1 - by_judge)


def test_scenes_to_measure_on_have_one_modifier_of_a_category():
    for count in (0, 3, 6):
        scenes = measure.scenes_with(count, 5)
        assert all(len({CATEGORY_OF[name] for name in scene.modifiers}) == count for scene in scenes)
    assert measure.scenes_with(3, 5) == measure.scenes_with(3, 5)


def test_noise_of_a_tenth_is_twenty_decibels():
    grey = np.full((2, 96, 96, 3), 100, np.uint8)
    assert measure.decibels(grey, grey + 25) == pytest.approx(20, abs=0.3)


def test_wiping_the_subject_from_a_picture():
    picture = render(Scene("heart"), np.random.default_rng(0))
    for is_black in (True, False):
        gone = measure.without_subject(picture, is_black)
        assert (gone[:5] == picture.pixels[:5]).all()
        assert np.abs(gone.astype(int) - picture.pixels)[picture.mask > 0.99].mean() > 15


def test_card_is_a_markdown_table():
    table = measure.markdown([measure.Row("speed", "0.07", "<= 0.15", "n = 2")])
    assert table.splitlines()[-1] == "| speed | 0.07 | <= 0.15 | n = 2 |"
