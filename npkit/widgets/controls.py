"""Controls: the fields of the constraint explorer; what they hold is a request, and a request can be put into them."""
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import ipywidgets as widgets

from npkit.errors import MissingArtifact, NpkitError
from npkit.study.artifacts import Run
from npkit.study.contents import PACKAGE
from npkit.text import keywords
from npkit.text.keywords import CATEGORIES
from npkit.widgets.answers import policy_name
from npkit.widgets.requests import Request

SHORT = {"description_width": "90px"}
LONG = {"description_width": "190px"}
MANNERS = {"any of these": "any", "all of these": "all"}


@dataclass
class Controls:
    """The fields by what they are for; `tags` has those of the six categories, `excluded` and `protected`."""
    run: Run
    prompt: widgets.Textarea
    tags: dict[str, widgets.TagsInput]
    manner: dict[str, widgets.Dropdown]
    patterns: widgets.Textarea
    checks: dict[str, widgets.Checkbox]
    numbers: dict[str, widgets.Widget]
    choices: dict[str, widgets.Dropdown]
    phrase_for: widgets.Dropdown
    phrase: widgets.Text
    add: widgets.Button
    advanced: widgets.ToggleButton
    box: widgets.VBox = field(default_factory=widgets.VBox)

    def read(self) -> Request:
        """Return the request that the fields hold; what is the profile's own value is None in it."""
        config, numbers = self.run.config.neurologic, {name: each.value for name, each in self.numbers.items()}
        first = numbers["first_seed"]

        def unless(name: str, own: float) -> float | None:
            return None if numbers[name] == own else numbers[name]

        return Request(
            prompt=self.prompt.value, wanted={category: list(self.tags[category].value) for category in CATEGORIES},
            every=[category for category in CATEGORIES if self.manner[category].value == "all"],
            excluded=list(self.tags["excluded"].value), protected=list(self.tags["protected"].value),
            patterns=[line for line in self.patterns.value.splitlines() if line.strip()],
            living_artists=self.checks["living_artists"].value and config.living_artists,
            defaults=self.checks["defaults"].value, beam_size=unless("beam_size", config.beam_size),
            partial_weight=unless("partial_weight", config.partial_weight),
            max_new_tokens=unless("max_new_tokens", config.max_new_tokens), seed=numbers["seed"],
            policy=self.choices["policy"].value, image_model=self.choices["image_model"].value,
            picture_seeds=range(first, first + numbers["num_seeds"]), num_alternatives=1 + numbers["num_alternatives"],
            min_gain=numbers["min_gain"] if self.checks["keep"].value else None,
            num_pictures=numbers["num_pictures"] if self.checks["keep"].value else None,
            profile=self.run.config.name, settings=dict(self.run.settings))

    def show(self, request: Request) -> None:
        """Put a request into the fields."""
        config = self.run.config.neurologic
        self.prompt.value, self.patterns.value = request.prompt, "\n".join(request.patterns)
        for name in self.tags:
            phrases = {"excluded": request.excluded, "protected": request.protected}.get(name)
            set_tags(self.tags[name], request.wanted.get(name, ()) if phrases is None else phrases)
        for category, each in self.manner.items():
            each.value = "all" if category in request.every else "any"
        checks = {"living_artists": request.living_artists, "defaults": request.defaults,
                  "keep": request.min_gain is not None}
        for name, value in checks.items():
            self.checks[name].value = value
        numbers = {"beam_size": request.beam_size or config.beam_size, "seed": request.seed,
                   "partial_weight": config.partial_weight if request.partial_weight is None else
                   request.partial_weight, "max_new_tokens": request.max_new_tokens or config.max_new_tokens,
                   "num_alternatives": request.num_alternatives - 1, "first_seed": request.picture_seeds[0],
                   "num_seeds": len(request.picture_seeds), "min_gain": request.min_gain or 0.0,
                   "num_pictures": request.num_pictures or 8}
        for name, value in numbers.items():
            self.numbers[name].value = value
        self.choices["policy"].value, self.choices["image_model"].value = request.policy, request.image_model

    def add_phrase(self) -> None:
        """Add the phrase of the user's own to the field that was chosen for it."""
        if not (phrase := " ".join(self.phrase.value.split())):
            raise NpkitError("the phrase of your own is empty: write at least one word, then press add")
        target = self.tags[self.phrase_for.value]
        set_tags(target, [*target.value, *([] if phrase in target.value else [phrase])])
        self.phrase.value = ""


def set_tags(target: widgets.TagsInput, phrases: Iterable[str]) -> None:
    """Put phrases into a field of tags; those of the user's own become allowed first, or it raises a TraitError."""
    phrases = [phrase for phrase in phrases if phrase.strip()]
    if target.allowed_tags:
        target.allowed_tags = list(dict.fromkeys([*target.allowed_tags, *phrases]))
    target.value = list(dict.fromkeys(phrases))


# 1. Making the fields ------------------------------------------------------------------------------------------------
def make_controls(run: Run, prompt: str = "") -> Controls:
    """Return the fields of a study, empty but for the prompt."""
    known = keywords.load(run.config.neurologic.keywords)
    tags = {category: widgets.TagsInput(value=[], allowed_tags=[row.phrase for row in known.get(category, ())],
                                        allow_duplicates=False, placeholder=f"add {article(category)} {category}")
            for category in CATEGORIES}
    for name, words in (("excluded", "add a forbidden phrase"), ("protected", "add a protected word")):
        tags[name] = widgets.TagsInput(value=[], allowed_tags=[], allow_duplicates=False, placeholder=words)
    controls = Controls(
        run=run, tags=tags, prompt=area("prompt", prompt, "such as: a castle tower"),
        manner={category: widgets.Dropdown(options=MANNERS, description=category, style=SHORT,
                                           layout={"width": "210px"}) for category in CATEGORIES},
        patterns=area("patterns", "", "forbidden regular expressions, one a line, such as: trending|\\d+k"),
        checks=make_checks(run), numbers=make_numbers(run), choices=make_choices(run),
        phrase_for=widgets.Dropdown(options=[*((name, name) for name in CATEGORIES), ("forbidden", "excluded"),
                                             ("protected", "protected")],
                                    description="own phrase for", style={"description_width": "100px"},
                                    layout={"width": "220px"}),
        phrase=widgets.Text(description="phrase", style={"description_width": "50px"}, continuous_update=False,
                            layout={"width": "240px"}),
        add=widgets.Button(description="Add", tooltip="add the phrase of your own", layout={"width": "80px"}),
        advanced=widgets.ToggleButton(description="Advanced", tooltip="show or hide the advanced settings",
                                      layout={"width": "120px"}))
    controls.box = lay_out(controls)
    return controls


def article(noun: str) -> str:
    """Return "a" or "an"."""
    return "an" if noun[0] in "aeiou" else "a"


def area(name: str, value: str, hint: str) -> widgets.Textarea:
    """Return a field of two lines."""
    return widgets.Textarea(value=value, description=name, placeholder=hint, style=SHORT, continuous_update=False,
                            rows=2, layout={"width": "98%"})


def make_checks(run: Run) -> dict[str, widgets.Checkbox]:
    """Return the boxes to tick."""
    words = {"defaults": ("default clauses for categories left open", True),
             "living_artists": ("living artists may be written", run.config.neurologic.living_artists),
             "keep": ("keep my prompt unless the gain lies above", False),
             "pictures": ("paint and score both prompts", True)}
    checks = {name: widgets.Checkbox(value=value, description=text, indent=False, layout={"width": "auto"})
              for name, (text, value) in words.items()}
    checks["living_artists"].disabled = not run.config.neurologic.living_artists  # the study's settings decide then
    return checks


def make_numbers(run: Run) -> dict[str, widgets.Widget]:
    """Return the fields of numbers; a number outside its range becomes the nearest inside."""
    config = run.config.neurologic
    whole = {"beam_size": ("beam size", config.beam_size, 1, 32),
             "max_new_tokens": ("length in tokens", config.max_new_tokens, 1, 200),
             "seed": ("seed of the keywords", 0, 0, 2**32 - 1), "first_seed": ("first picture seed", 0, 0, 2**31),
             "num_seeds": ("picture seeds", 4, 1, 16), "num_alternatives": ("alternatives", 3, 0, 9),
             "num_pictures": ("pictures behind it", 8, 2, 64)}
    fields = {name: widgets.BoundedIntText(value=value, min=least, max=most, description=text, style=LONG,
                                           layout={"width": "300px"})
              for name, (text, value, least, most) in whole.items()}
    fields["partial_weight"] = widgets.BoundedFloatText(
        value=config.partial_weight, min=0, max=50, step=0.5, style=LONG, description="lambda (partial_weight)",
        layout={"width": "300px"})
    fields["min_gain"] = widgets.BoundedFloatText(value=0.0, min=-100, max=100, step=0.1, style=LONG,
                                                  description="gain to lie above", layout={"width": "300px"})
    return fields


def make_choices(run: Run) -> dict[str, widgets.Dropdown]:
    """Return which policy writes and which image model paints."""
    images = {f"the profile's: {short(run.config.images.model)}": ""}
    other = run.config.ablation.transfer_to
    if other and (PACKAGE.parent / other).is_dir():
        images[short(other)] = other
    options = {"policy": policies_of(run), "image_model": images}
    return {name: widgets.Dropdown(options=values, description=name.replace("_", " "), style=LONG,
                                   layout={"width": "400px"}) for name, values in options.items()}


def policies_of(run: Run) -> dict[str, str]:
    """Return the policies by name; those of another seed than 0 by their folder, as the command line takes them."""
    found = {}
    for name in ("ppo", "sft"):
        try:
            found[name] = policy_name(run, name)
        except MissingArtifact:
            found[name] = name  # it is said when it is asked for
    return found


def short(model: str) -> str:
    """Return the end of a model's name."""
    return Path(model.rpartition(":")[2]).name


def lay_out(controls: Controls) -> widgets.VBox:
    """Return the fields in their order; those of the advanced settings are hidden until they are asked for."""
    row = {"flex_flow": "row wrap", "align_items": "center", "width": "100%", "grid_gap": "2px 12px"}

    def line(*children: widgets.Widget) -> widgets.HBox:
        return widgets.HBox(children, layout=row)

    categories = [widgets.HBox([controls.manner[category], controls.tags[category]],
                               layout=row | {"width": "auto", "flex": "1 1 440px"}) for category in CATEGORIES]
    labelled = [line(widgets.Label(name, layout={"width": "90px", "justify_content": "flex-end"}),
                     controls.tags[key]) for key, name in (("excluded", "forbidden"), ("protected", "protected"))]
    numbers, checks = controls.numbers, controls.checks
    hidden = widgets.VBox([
        line(*controls.choices.values()),
        line(*(numbers[name] for name in ("beam_size", "max_new_tokens", "partial_weight", "seed"))),
        line(*(numbers[name] for name in ("first_seed", "num_seeds", "num_alternatives"))),
        line(numbers["min_gain"], numbers["num_pictures"])], layout={"display": "none"})

    def show_or_hide(change: dict) -> None:
        hidden.layout.display = "" if change["new"] else "none"

    controls.advanced.observe(show_or_hide, "value")
    hint = widgets.HTML('<div class="npkit-page">A phrase is added with Tab, and taken away with Backspace in the '
                        'empty field: JupyterLab keeps Enter for itself.</div>', layout={"margin": "0 0 0 98px"})
    return widgets.VBox([controls.prompt, hint, line(*categories), *labelled, controls.patterns,
                         line(controls.phrase_for, controls.phrase, controls.add), line(*checks.values()),
                         controls.advanced, hidden])
