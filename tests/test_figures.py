"""The shared figure base and the figures of notebook 06: what is drawn, where, and that nothing global changes."""
import inspect
import warnings
from itertools import pairwise

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_figures import examples
from matplotlib.backends.backend_agg import RendererAgg
from PIL import Image

from npkit import figures
from npkit.figures import evaluation as drawn
from npkit.figures.base import as_array
from npkit.findings import evaluation

PREFIXES = [f"a cat {index}" for index in range(12)]


class NoisyScorer:
    """Two judges that like words, each with its own noise."""

    def scores(self, prefixes: list[str], prompts: list[str], seed: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed + len(prompts[0]))
        words = torch.tensor([len(prompt.split()) for prompt in prompts], dtype=torch.float64)
        return {judge: words + torch.randn(len(prompts), generator=generator) for judge in ("pickscore", "oracle")}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    prompts = {variant: [prefix + ", moody" * rng.integers(3) for prefix in PREFIXES]
               for variant in evaluation.EVALUATED}
    return evaluation.evaluate(prompts | {"prefix": PREFIXES}, PREFIXES, NoisyScorer(), seeds=[0])


def texts(figure: figures.Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_variants_differ_in_colour_and_in_marker():
    assert tuple(figures.VARIANT_STYLE) == evaluation.EVALUATED
    for values in zip(*figures.VARIANT_STYLE.values(), strict=True):
        assert len(set(values)) == len(evaluation.EVALUATED)


def test_a_figure_shows_itself_and_leaves_the_settings_alone():
    before = dict(matplotlib.rcParams)
    figure, axes = figures.new_figure(4, 2)
    axes.plot([1, 2])
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert not axes.spines["top"].get_visible()
    assert dict(matplotlib.rcParams) == before


def test_only_the_tiny_profile_is_marked_as_no_result():
    notes = [texts(figures.note_profile(figures.new_figure(3, 2)[0], profile)) for profile in ("tiny", "paper")]
    assert notes == [["tiny profile: not a result"], []]


def test_tensors_arrays_and_pil_pictures_are_drawn_alike():
    tensor = torch.rand(3, 5, 4)
    array = tensor.permute(1, 2, 0).numpy()
    assert np.array_equal(as_array(tensor), array)
    assert np.array_equal(as_array(array), array)
    assert as_array(Image.new("RGB", (4, 5))).shape == (5, 4, 3)
    assert as_array(np.zeros((3, 7, 3))).shape == (3, 7, 3)


def test_a_sheet_reads_row_by_row_and_wraps_its_titles():
    long = "a castle, matte painting, by alphonse mucha, volumetric light, highly detailed"
    pictures = [torch.full((3, 8, 8), value) for value in (0.0, 0.25, 0.5, 0.75)]
    figure = figures.picture_sheet([*pictures, None], ["one", long, "three", "four", "gap"], columns=3,
                                   column_titles=["prefix", "ppo", "else"], row_titles=["above", "below"])
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes]
    assert shown == [0.0, 0.25, 0.5, 0.75]
    corners = [(round(axes.get_position().x0, 3), round(axes.get_position().y0, 3)) for axes in figure.axes]
    assert corners[0][1] == corners[1][1] > corners[3][1]
    assert corners[0][0] == corners[3][0] < corners[1][0]
    wrapped = next(text for text in texts(figure) if text.startswith("a castle"))
    assert wrapped.replace("\n", " ") == long
    assert max(map(len, wrapped.splitlines())) <= 27
    colors = {text.get_text(): text.get_color() for text in figure.texts}
    assert colors["ppo"] == figures.VARIANT_STYLE["ppo"].color != colors["else"]


def test_titles_stay_beside_their_neighbours():
    title = "illustration, wide shot, matte painting, 8k"
    figure = figures.picture_sheet([torch.rand(3, 8, 8)] * 4, [title] * 4, columns=4)
    boxes = [text.get_window_extent() for text in figure.texts]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_forest_has_a_panel_a_judge_and_a_row_a_variant(rows):
    table = evaluation.results_table(rows, np.random.default_rng(0), samples=50)
    figure = drawn.gain_forest(table)
    assert [axes.get_title() for axes in figure.axes] == ["pickscore", "oracle"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["human", evaluation.WITH_COMPLETION, *evaluation.EVALUATED[2:]]
    row = table.query("judge == 'oracle' and variant == 'ppo'").iloc[0]
    line = next(line for line in figure.axes[1].lines if list(line.get_xdata()) == [row["gain_low"], row["gain_high"]])
    assert line.get_color() == figures.VARIANT_STYLE["ppo"].color


def test_the_share_of_fooled_prefixes_is_the_one_in_the_table(rows):
    judged, true = evaluation.gains(rows, "pickscore"), evaluation.gains(rows, "oracle")
    figure = drawn.judge_against_oracle(judged, true, "pickscore", variants=("human", "ppo"))
    shares = [axes.texts[0].get_text() for axes in figure.axes]
    assert shares == [f"fooled: {evaluation.reward_hacking(rows, variant).share:.0%}" for variant in ("human", "ppo")]


def test_each_variants_panel_gives_its_slope_and_the_last_one_the_means():
    lengths = pd.DataFrame({"prefix": "a", "variant": ["ppo"] * 3 + ["sft+beam"] * 2, "words_added": [1, 2, 3, 0, 0],
                            "gain": [0.5, 1.0, 1.5, 0.0, 0.0]})
    figure = drawn.length_effect(lengths, "pickscore")
    ppo, beam, means, empty = figure.axes
    assert [axes.get_title() for axes in (ppo, beam, means)] == ["ppo", "sft+beam", "mean of each variant"]
    assert [axes.texts[0].get_text() for axes in (ppo, beam)] == ["+0.50 a word", "no line: one length"]
    assert [line.get_xydata().tolist() for line in means.lines[:2]] == [[[2, 1]], [[0, 0]]]
    assert not empty.axison


def test_the_paid_judge_is_marked_and_leads_over_the_others_alone():
    names = ("effect", "low", "high", "lead", "lead_low", "lead_high")
    effects = pd.DataFrame([(0.9, 0.8, 1.0, 0, 0, 0), (0.2, 0.1, 0.3, 0.7, 0.6, 0.8)], ["pickscore", "oracle"], names)
    sizes, leads = drawn.judge_effects(effects, "pickscore", "ppo - sft").axes
    assert [label.get_text() for label in sizes.get_yticklabels()] == ["pickscore (paid)", "oracle"]
    assert [[text.get_text() for text in axes.texts] for axes in (sizes, leads)] == [["+0.90", "+0.20"], ["+0.70"]]


def test_a_sheet_of_variants_gives_the_words_added_and_the_gain(rows):
    gains = evaluation.gains(rows, "pickscore")
    prompts = {variant: [f"{prefix}, moody" for prefix in PREFIXES[:2]] for variant in evaluation.EVALUATED}
    pictures = {variant: torch.rand(2, 3, 8, 8) for variant in evaluation.EVALUATED}
    figure = drawn.variant_sheet(PREFIXES[:2], prompts, pictures, gains)
    assert f"{gains.loc[PREFIXES[0], 'ppo']:+.2f}  moody" in texts(figure)


def training_rows(*left_out: str) -> list[dict]:
    names = set(figures.ppo.CURVES) - set(left_out)
    return [{"update": number, **{name: number / 10 for name in names}} for number in range(1, 7)]


def test_training_is_five_curves_and_samples_of_the_last_update():
    samples = pd.DataFrame({"update": [1, 2, 2, 2, 2], "prefix": "a fox", "score": [9.0, 0.1, 0.7, -0.5, 0.3],
                            "completion": [", old", ", low", ", best", ", worst", ", middle"]})
    rows = training_rows()
    rows[2]["eval/score"] = 0.4
    figure = figures.ppo.training_curves(rows, 8, samples)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [*figures.ppo.CURVES.values(), "samples of update 2"]
    written = [text.get_text() for text in figure.axes[5].texts]
    assert [text.split()[0] for text in written] == ["+0.70", "+0.10", "-0.50"]
    assert "best" in written[0] and "worst" in written[2]
    assert figure.axes[0].get_legend().texts[0].get_text() == "held-out prefixes"


def test_samples_do_not_meet_however_long():
    samples = pd.DataFrame({"update": 1, "prefix": "a fox", "completion": ", oil painting" * 30, "score": [1.0, 0, -1]})
    figure = figures.ppo.training_curves(training_rows(), 8, samples)
    figure._repr_png_()
    boxes = [text.get_window_extent() for text in figure.axes[5].texts]
    assert all(above.y0 > below.y1 for above, below in pairwise(boxes))


def test_a_training_without_a_critic_has_no_panel_for_it():
    figure = figures.ppo.training_curves(training_rows("value/explained_variance"), 8)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [label for name, label in figures.ppo.CURVES.items() if name != "value/explained_variance"]
    assert len(figures.ppo.training_curves([], 8).axes) == 6


def test_seeds_are_a_row_each_and_a_mean_with_students_interval():
    rows = pd.DataFrame({"seed": [2, 0, 1], "judge": "oracle", "difference": [0.9, 0.3, 0.6], "low": 0.1, "high": 1.0})
    figure = figures.ppo.seed_spread(pd.concat([rows, rows.assign(judge="pickscore")]))
    assert [axes.get_title() for axes in figure.axes] == ["oracle", "pickscore"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["seed 0", "seed 1", "seed 2", "mean"]
    [(low, high)] = [line[:, 0] for line in figure.axes[0].collections[1].get_segments()]
    assert (low, high) == pytest.approx((0.6 - 4.303 * 0.3 / 3**0.5, 0.6 + 4.303 * 0.3 / 3**0.5), abs=1e-3)


def test_seeds_without_a_table_say_that_it_is_missing():
    figure = figures.ppo.seed_spread(pd.DataFrame())
    assert "04_seeds.csv is not there yet" in figure.axes[0].texts[0].get_text()


# Every figure: one style, and people's text as they wrote it ---------------------------------------------------------
STRANGE = "$5 \\frac 🦊風 {x"  # a formula that is none, and characters that DejaVu Sans lacks
STAND_IN = "$5\\frac[foxface,U+98A8]{x"
SHOW_NO_TEXT = {drawn.resampled_means, figures.sft.temperatures, figures.ppo.clipping, figures.ppo.stopped_tokens,
                figures.glyphworld.vote_curve, figures.neurologic.price, figures.neurologic.bound,
                figures.reward.learning}
EXAMPLES = examples("moody")


def painted(function, word: str, monkeypatch) -> str:
    """Paint a figure's example; return all that its renderer was told to write, without blanks."""
    written, draw_text = [], RendererAgg.draw_text

    def spy(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        written.append((s, ismath))
        draw_text(self, gc, x, y, s, prop, angle, ismath, mtext)

    monkeypatch.setattr(RendererAgg, "draw_text", spy)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Glyph ... missing from font"
        assert examples(word)[function]()._repr_png_().startswith(b"\x89PNG")
    assert not any(ismath for _, ismath in written)
    return "".join("".join(text.replace("␣", " ").split()) for text, _ in written)


def test_every_figure_function_has_an_example():
    modules = ("ablations", "alarm", "data", "evaluation", "glyphworld", "neurologic", "ppo", "preferences", "reward",
               "sft")
    public = {function for name in modules
              for function in vars(getattr(figures, name)).values()
              if inspect.isfunction(function) and inspect.signature(function).return_annotation is figures.Figure}
    assert public | {figures.picture_sheet} == set(EXAMPLES)


@pytest.mark.parametrize("function", EXAMPLES, ids=lambda function: function.__name__)
def test_a_figure_looks_the_same_whatever_style_the_session_has(function):
    plain = EXAMPLES[function]()._repr_png_()
    with matplotlib.style.context(["dark_background", {
            "font.size": 17, "legend.frameon": True, "legend.fontsize": 5, "xtick.labelsize": 4, "text.color": "red",
            "axes.titlesize": 30, "lines.linewidth": 9, "figure.dpi": 50, "savefig.facecolor": "red"}]):
        assert EXAMPLES[function]()._repr_png_() == plain


@pytest.mark.parametrize("function", EXAMPLES, ids=lambda function: function.__name__)
def test_peoples_text_is_written_as_they_wrote_it(function, monkeypatch):
    written = painted(function, STRANGE, monkeypatch).replace("\\\\", "\\")  # tokens show their escapes
    assert (STAND_IN in written) == (function not in SHOW_NO_TEXT)
    assert "\\" not in written.replace(STAND_IN, "").replace("\\n", "")  # no formula of a formatter's either
