"""Tiny checkpoints with random weights in the real file formats, so that tests take the path of the paper profile."""
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from npkit.study.profiles import PolicyConfig
from npkit.text.policy import build_policy, save_policy

TEXTS = ["a castle tower, oil painting, golden hour", "a snowman, pixel art, sharp focus", "a cat by van gogh"]
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 24}


def clip_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer with a small BPE of its own."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(TEXTS * 3, trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    words = sorted(bpe.get_vocab()) + [f"{letter}</w>" for letter in alphabet] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TEXT["max_position_embeddings"])


def text_config(tokenizer: CLIPTokenizer) -> dict:
    """Return the sizes of the text encoder that belongs to `tokenizer`."""
    return TEXT | {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
                   "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def save_pipeline(folder: Path) -> Path:
    """Write a StableDiffusionPipeline that paints 32 x 32 pictures."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 3, sample_size=32)
    StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(CLIPTextConfig(**text_config(tokenizer))), tokenizer=tokenizer, unet=unet,
        scheduler=DPMSolverMultistepScheduler(steps_offset=1), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False).save_pretrained(folder)
    return folder


def save_clip(folder: Path, size: int = 64) -> Path:
    """Write a CLIPModel with its tokenizer and image processor for pictures of `size` pixels."""
    torch.manual_seed(1)
    tokenizer = clip_tokenizer()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": size, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text_config(tokenizer), vision_config=vision, projection_dim=12)
              ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size}
                          ).save_pretrained(folder)
    return folder


def head_state(width: int = 12) -> dict[str, torch.Tensor]:
    """Return the state dict of an aesthetic head in LAION's key format."""
    torch.manual_seed(2)
    sizes, state = (width, 10, 8, 6, 4, 1), {}
    for layer, fan_in, fan_out in zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False):
        state |= {f"layers.{layer}.weight": torch.randn(fan_out, fan_in), f"layers.{layer}.bias": torch.randn(fan_out)}
    return state


def save_head(path: Path) -> Path:
    """Write an aesthetic head as `.safetensors` or `.pth`."""
    if path.suffix == ".safetensors":
        save_file(head_state(), path)
    else:
        torch.save(head_state(), path)
    return path


def save_random_policy(folder: Path) -> str:
    """Write a small policy with random weights; return its folder as an option names it."""
    sizes = PolicyConfig(num_layers=1, hidden_size=16, vocab_size=330, max_prompt_tokens=192)
    texts = ["a castle tower, pixel art, moody, highly detailed", "a fox, oil painting, greg rutkowski, close up"] * 5
    save_policy(*build_policy(sizes, texts, seed=0), folder)
    return str(folder)


def painting_options(folder: Path) -> list[str]:
    """Write an image model and judges with random weights; return the options that let `optimize` use them."""
    painter, clip = save_pipeline(folder / "diffusion"), save_clip(folder / "clip", size=32)
    settings = [f"images.model={painter}", "images.height=96", "images.width=96", "images.num_inference_steps=1",
                f"judges.aesthetic.head={save_head(folder / 'head.safetensors')}"]
    settings += [f"judges.{judge}.model={clip}" for judge in ("pickscore", "aesthetic", "heldout")]
    return [word for setting in settings for word in ("--set", setting)] + ["--max-new-tokens", "12"]
