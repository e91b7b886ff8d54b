"""Judges: a number for how well a picture shows the prefix, how good it looks, or how good a prompt is."""
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from transformers import AutoConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.errors import NpkitError
from npkit.scoring.images import identity, is_hub_id
from npkit.study.code import code_of
from npkit.study.contents import find_file, resolve, user_path
from npkit.study.profiles import JudgeConfig, Profile

FUNCTION_TAKES = {"text_function": ("prompts",), "picture_function": ("prefixes", "pictures", "head")}


class Judge:
    """A judge by name; called with prefixes, prompts and pictures it returns scores (batch,).

    `note` says in one line what a score means, for people who read one: of a function the first line of its docstring.

    `rate(prefixes, prompts, pictures)` does the work. Judges of pictures compare with the PREFIX, what the user asked
    for; judges of text read the whole prompt and need no pictures.
    """

    def __init__(self, config: JudgeConfig, rate: Callable[..., Tensor], note: str = ""):
        self.name, self.config, self.rate, self.note = config.name, config, rate, note
        self.needs_pictures = config.kind != "text_function"

    @property
    def fingerprint(self) -> str:
        """What decides the scores besides picture, prefix and prompt, as a short hash.

        The kind, every file by content, a function by its code and name; then the code here and its libraries.
        """
        named = (self.config.model, self.config.head, self.config.processor)
        files = [identity(name) if name else "" for name in named]
        facts = (self.config.kind, *files, code_of(__name__).digest)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def __call__(self, prefixes: Sequence[str], prompts: Sequence[str], pictures: Tensor | None = None) -> Tensor:
        if self.needs_pictures and pictures is None:
            raise NpkitError(f"the judge {self.name} looks at pictures and was given none")
        return self.rate(prefixes, prompts, pictures)


class Clip(nn.Module):
    """A CLIP model with its tokenizer and the numbers of its image processor."""

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, processor: CLIPImageProcessorPil):
        super().__init__()
        self.model, self.tokenizer, self.processor = model, tokenizer, processor

    def picture_features(self, pictures: Tensor) -> Tensor:
        """Return L2-normalised features (batch, width)."""
        pixels = preprocess(pictures.to(self.model.device), self.processor)
        return features(self.model.get_image_features(pixel_values=pixels))

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Return L2-normalised features (batch, width); a text beyond CLIP's limit is cut, as PickScore does."""
        tokens = self.tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt",
                                max_length=self.model.config.text_config.max_position_embeddings)
        return features(self.model.get_text_features(**tokens.to(self.model.device)))

    def cosine(self, texts: Sequence[str], pictures: Tensor) -> Tensor:
        """Return the cosine between each text and its picture."""
        return (self.text_features(texts) * self.picture_features(pictures)).sum(-1)


def features(output) -> Tensor:
    """Return normalised features from what CLIPModel gives: a tensor, or since transformers 5 an output object."""
    return normalize((output if isinstance(output, Tensor) else output.pooler_output).float(), dim=-1)


def preprocess(pictures: Tensor, processor: CLIPImageProcessorPil) -> Tensor:
    """Return `pictures` in [0, 1] as CLIP's image processor would prepare them, without leaving the device.

    Shortest edge resized (bicubic, rounded to 256 steps as in an image file), centre cropped, normalised.
    """
    shortest, crop = processor.size["shortest_edge"], processor.crop_size
    height, width = pictures.shape[-2:]
    if min(height, width) != shortest:
        height, width = (max(shortest, int(shortest * side / min(height, width))) for side in (height, width))
        for shape in ((pictures.shape[-2], width), (height, width)):  # Pillow's way: across, then down
            pictures = interpolate(pictures, shape, mode="bicubic", antialias=True).clamp(0, 1)
            pictures = (pictures * 255).round() / 255
    top, left = (height - crop["height"]) // 2, (width - crop["width"]) // 2
    pictures = pictures[..., top:top + crop["height"], left:left + crop["width"]]
    mean, std = (pictures.new_tensor(numbers)[:, None, None] for numbers in (processor.image_mean, processor.image_std))
    return (pictures - mean) / std


def find_head(name: str) -> Path:
    """Return the file of an aesthetic head: a path, or `repository:file` of the hub."""
    path = user_path(resolve(name))
    repository, _, file = name.partition(":")
    if not os.path.exists(path) and not file:
        raise NpkitError(f"there is no aesthetic head at {path}: name a file, or repository:file of the hub")
    return path if os.path.exists(path) else Path(hf_hub_download(repository, file))


def load_head(path: str | Path) -> nn.Sequential:
    """Return LAION's aesthetic head from a state dict with keys layers.{0,2,4,6,7}: linear layers, no activations.

    The layers between them were dropout in training. `.safetensors` and `.pth` are read; sizes follow the tensors.
    """
    path = find_head(str(path))
    state = read_state(path)
    weights = {name: tensor for name, tensor in state.items() if name.endswith(".weight")}
    if not weights or not all(re.fullmatch(r"layers\.\d+\.weight", name) and tensor.ndim == 2
                              and getattr(state.get(name.replace("weight", "bias")), "shape", None) == tensor.shape[:1]
                              for name, tensor in weights.items()):
        raise NpkitError(f"{path} is no LAION aesthetic head: it must have matrices layers.N.weight and as long a "
                         f"layers.N.bias, got {', '.join(map(str, list(state)[:4])) or 'nothing'}")
    layers = []
    for name in sorted(weights, key=lambda name: int(name.split(".")[1])):
        layer = nn.Linear(*reversed(state[name].shape))
        layer.load_state_dict({"weight": state[name], "bias": state[name.replace("weight", "bias")]})
        layers.append(layer)
    widths = [layer.in_features for layer in layers[1:]] + [1]
    if [layer.out_features for layer in layers] != widths:
        raise NpkitError(f"{path} is no LAION aesthetic head: its layers do not follow each other down to one number")
    return nn.Sequential(*layers).requires_grad_(False)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a wrong file every library raises something else
        raise NpkitError(f"{path} holds no tensors that can be loaded: {first_words(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise NpkitError(f"{path} holds {type(found).__name__}, and an aesthetic head is tensors by name")
    return found


def first_words(error: Exception) -> str:
    """Return the first line of an error, or its name where it says nothing."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def load_clip(config: JudgeConfig, device: torch.device | str) -> Clip:
    """Return the judge's CLIP model (float32, however it is stored), tokenizer and image processor on `device`."""
    source, processor = resolve(config.model), resolve(config.processor or config.model)
    try:
        clip = Clip(CLIPModel.from_pretrained(source, dtype=torch.float32), CLIPTokenizer.from_pretrained(processor),
                    CLIPImageProcessorPil.from_pretrained(processor))
    except (OSError, ValueError) as error:
        raise NpkitError(f"judges.{config.name}.model {config.model!r} is no CLIP model that can be loaded: "
                         f"{str(error).splitlines()[0]}") from error
    return clip.to(device).eval().requires_grad_(False)


def load_function(config: JudgeConfig) -> Callable[..., Sequence[float]]:
    """Return the function called `module:function` of a judge, which takes what its kind gives it."""
    module, _, name = config.model.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything
        raise NpkitError(f"a judge of kind text_function or picture_function names a Python module:function, "
                         f"got {config.model!r} (judges.{config.name}.model): {error}") from error
    given = FUNCTION_TAKES[config.kind]
    try:
        inspect.signature(function).bind(*given)
    except (TypeError, ValueError) as error:
        raise NpkitError(f"judges.{config.name}.model {config.model!r} must be a function of ({', '.join(given)}), as "
                         f"a judge of kind {config.kind} is: {error}") from None
    return function


def check_config(config: JudgeConfig) -> None:
    """Raise where no judge can come of these settings; a hub id is not asked, for that would need the network."""
    if not config.model:
        raise NpkitError(f"judges.{config.name}.model is empty: a judge of kind {config.kind} needs one")
    if config.kind in FUNCTION_TAKES:
        load_function(config)
    else:
        check_clip(config)
    if config.kind in ("aesthetic", "picture_function") and not config.head:
        raise NpkitError(f"judges.{config.name}.head is empty: a judge of kind {config.kind} needs one")
    if config.kind == "aesthetic" and find_file(config.head):
        load_head(config.head)


def check_clip(config: JudgeConfig) -> None:
    """Raise where a name is neither a folder with a CLIP model nor a possible hub id."""
    for setting in ("model", "processor"):
        name = getattr(config, setting)
        if name and not find_file(name) and not is_hub_id(name):
            raise NpkitError(f"judges.{config.name}.{setting} is a folder or a hub id, got {name!r}")
    if not find_file(config.model):
        return
    try:
        kind = AutoConfig.from_pretrained(resolve(config.model), local_files_only=True).model_type
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        kind = f"none ({first_words(error)})"
    if kind != "clip":
        raise NpkitError(f"judges.{config.name}.model {config.model!r} is no CLIP model that can be loaded: it is of "
                         f"kind {kind}")
    folder = find_file(config.processor or config.model)
    if folder and not ((folder / "preprocessor_config.json").is_file()
                       and any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))):
        raise NpkitError(f"judges.{config.name} needs a tokenizer and a preprocessor_config.json, and {folder} has not "
                         "both: name their folder or hub id in .processor")


def to_bytes(pictures: Tensor) -> np.ndarray:
    """Return pictures (batch, 3, height, width) in [0, 1] as (batch, height, width, 3) uint8."""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def first_line(function: Callable) -> str:
    """Return what a function says of itself in one line."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def load_judge(config: JudgeConfig, device: torch.device | str) -> Judge:
    """Return the judge of one profile entry."""
    check_config(config)
    if config.kind == "text_function":
        function = load_function(config)
        return Judge(config, lambda prefixes, prompts, pictures: torch.tensor(list(function(list(prompts)))),
                     first_line(function))
    if config.kind == "picture_function":
        function, folder = load_function(config), Path(resolve(config.head))
        return Judge(config, lambda prefixes, prompts, pictures: torch.tensor(
            function(list(prefixes), to_bytes(pictures), folder), dtype=torch.float32), first_line(function))
    clip = load_clip(config, device)
    if config.kind == "pickscore":
        scale = clip.model.logit_scale.exp()
        return Judge(config, lambda prefixes, prompts, pictures: clip.cosine(prefixes, pictures) * scale)
    if config.kind == "clipscore":
        return Judge(config, lambda prefixes, prompts, pictures: 100 * clip.cosine(prefixes, pictures).clamp(min=0))
    head, width = load_head(config.head).to(device), clip.model.config.projection_dim
    if head[0].in_features != width:
        raise NpkitError(f"judges.{config.name}.head takes {head[0].in_features} numbers, and {config.model!r} gives "
                         f"{width}")
    return Judge(config, lambda prefixes, prompts, pictures: head(clip.picture_features(pictures)).squeeze(-1))


def load_judges(profile: Profile, device: torch.device | str) -> dict[str, Judge]:
    """Return the profile's judges by name."""
    return {config.name: load_judge(config, device) for config in profile.judges}
