"""Requests: all that somebody asks of the constraint explorer, as plain values, JSON, and a command line."""
import csv
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields

from npkit.errors import NpkitError
from npkit.text.characters import CONTROL
from npkit.text.keywords import CATEGORIES

OTHER_COMMAS = {ord("，"): ",", ord("、"): ","}  # as the command line reads them in a list of phrases
TYPES = {"prompt": str, "policy": str, "image_model": str, "profile": str, "living_artists": bool, "defaults": bool,
         "seed": int, "num_alternatives": int}
OPTIONAL = {"beam_size": (int,), "max_new_tokens": (int,), "partial_weight": (int, float), "min_gain": (int, float),
            "num_pictures": (int,)}
LISTS = {"every": str, "excluded": str, "patterns": str, "protected": str, "picture_seeds": int}


@dataclass(frozen=True)
class Request:
    """What is asked for. None means the profile's own value; `settings` are those of the study.

    `wanted` has the phrases of each category, any of which will do; of the categories in `every` all must occur.
    `partial_weight` is the paper's lambda. `num_pictures` stands behind `min_gain` and the ledger; `picture_seeds` are
    those of the pictures shown.
    """
    prompt: str = ""
    wanted: Mapping[str, Sequence[str]] = field(default_factory=dict)
    every: Sequence[str] = ()
    excluded: Sequence[str] = ()
    patterns: Sequence[str] = ()
    protected: Sequence[str] = ()
    living_artists: bool = True
    defaults: bool = True
    beam_size: int | None = None
    partial_weight: float | None = None
    max_new_tokens: int | None = None
    seed: int = 0
    policy: str = "ppo"
    image_model: str = ""
    picture_seeds: Sequence[int] = (0, 1, 2, 3)
    num_alternatives: int = 3
    min_gain: float | None = None
    num_pictures: int | None = None
    profile: str = "tiny"
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        wanted = {category: tuple(phrases) for category, phrases in self.wanted.items() if phrases}
        object.__setattr__(self, "wanted", wanted)
        for name in LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def any_of(self) -> dict[str, list[str]]:
        """The phrases of each category's clause: any of them, or the first where all must occur."""
        return {category: [normal(phrase) for phrase in phrases[:1 if category in self.every else None]]
                for category, phrases in self.wanted.items()}

    @property
    def require(self) -> list[str]:
        """The phrases that are a clause of their own: all but the first of each category in `every`."""
        return [normal(phrase) for category in CATEGORIES if category in self.every
                for phrase in self.wanted.get(category, ())[1:]]

    @property
    def decoding(self) -> dict[str, object]:
        """The settings of the profile that this request changes; no training rests on them."""
        changes = {"neurologic.living_artists": False if not self.living_artists else None,
                   "neurologic.partial_weight": None if self.partial_weight is None else float(self.partial_weight),
                   "neurologic.beam_size": self.beam_size, "neurologic.max_new_tokens": self.max_new_tokens,
                   "images.model": self.image_model or None}
        return {name: value for name, value in changes.items() if value is not None}


def normal(phrase: str) -> str:
    """Return a phrase as the command line reads it: single spaces, every comma the ASCII one."""
    return " ".join(phrase.split()).translate(OTHER_COMMAS)


# 1. JSON -------------------------------------------------------------------------------------------------------------
def to_json(request: Request) -> str:
    """Return a request as JSON; what has the default value is left out."""
    plain, default = asdict(request), asdict(Request())
    return json.dumps({name: value for name, value in plain.items() if value != default[name] or name == "prompt"},
                      ensure_ascii=False, indent=2)


def from_json(text: str) -> Request:
    """Return the request of a JSON object, or raise a sentence on what is wrong with it."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise NpkitError(f"the request is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise NpkitError(f"the request is a JSON object with a prompt, got {text.strip()[:40]!r}")
    known = {each.name for each in fields(Request)}
    if unknown := sorted(set(values) - known):
        raise NpkitError(f"the request has an unknown entry {unknown[0]!r}; known: {', '.join(sorted(known))}")
    for name, value in values.items():
        if problem := wrong_with(name, value):
            raise NpkitError(f"the request's {name} is {problem}, got {value!r:.60}")
    return Request(**values)


def wrong_with(name: str, value: object) -> str:
    """Return what an entry of a request must be, "" where it is that."""
    if name in TYPES:
        return "" if type(value) is TYPES[name] else {str: "a text", bool: "true or false", int: "a whole number"}[
            TYPES[name]]
    if name in OPTIONAL:
        return "" if value is None or type(value) in OPTIONAL[name] else "a number, or null for the profile's own"
    if name in LISTS:
        kind = LISTS[name]
        return "" if is_list_of(value, kind) else f"a list of {'texts' if kind is str else 'whole numbers'}"
    if name == "settings":
        return "" if isinstance(value, dict) else "an object of settings, such as {\"ppo.kl_coef\": 0.1}"
    fits = isinstance(value, dict) and set(value) <= set(CATEGORIES) and all(
        is_list_of(phrases, str) for phrases in value.values())
    return "" if fits else f"an object with a list of phrases a category ({', '.join(CATEGORIES)})"


def is_list_of(value: object, kind: type) -> bool:
    """Say whether a value is a list whose members are all of one type."""
    return isinstance(value, list | tuple) and all(type(each) is kind for each in value)


# 2. The command line -------------------------------------------------------------------------------------------------
def command_line(request: Request) -> str:
    """Return the command that gives the same optimised prompt, quoted for a shell."""
    return shlex.join(["python", "-m", "npkit", *arguments(request)])


def arguments(request: Request) -> list[str]:
    """Return the words of the command line behind `npkit`."""
    words = ["optimize"]
    words += option("profile", request.profile) if request.profile != "tiny" else []
    changes = {name: value for name, value in request.decoding.items()
               if name in ("neurologic.living_artists", "neurologic.partial_weight")}
    for name, value in {**request.settings, **changes}.items():
        words += option("set", f"{name}={str(value).lower() if isinstance(value, bool) else value}")
    words += option("policy", request.policy) if request.policy != "ppo" else []
    for category in CATEGORIES:
        words += option(category, as_list(request.any_of[category])) if request.any_of.get(category) else []
    words += [word for phrase in request.require for word in option("require", phrase)]
    words += option("exclude", as_list(request.excluded)) if request.excluded else []
    words += [word for pattern in request.patterns for word in option("exclude-pattern", pattern)]
    words += option("protect", as_list(request.protected)) if request.protected else []
    words += [] if request.defaults else ["--no-defaults"]
    numbers = {"seed": request.seed or None, "beam": request.beam_size, "max-new-tokens": request.max_new_tokens,
               "image-model": request.image_model or None, "min-gain": request.min_gain,
               "pictures": request.num_pictures if request.min_gain is not None else None}
    for name, value in numbers.items():
        words += option(name, str(value)) if value is not None else []
    prompt = CONTROL.sub(" ", request.prompt)
    return words + (["--", prompt] if prompt.startswith("-") and prompt != "-" else [prompt if prompt != "-" else " -"])


def option(name: str, value: str) -> list[str]:
    """Return an option with its value, in one word where the value looks like an option itself."""
    return [f"--{name}={value}"] if value.startswith("-") else [f"--{name}", value]


def as_list(phrases: Sequence[str]) -> str:
    """Return phrases separated by commas; one with a comma or a double quote inside stands in double quotes."""
    def quoted(phrase: str) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow([normal(phrase)])
        return buffer.getvalue()

    return ", ".join(map(quoted, phrases))
