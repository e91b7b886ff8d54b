"""Widgets: requests, answers and the panel without a browser, on a study whose policies have random weights."""
import json
import shlex
import time

import fixtures_study
import numpy as np
import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.neurologic import decode
from npkit.study.artifacts import open_run
from npkit.text.keywords import CATEGORIES
from npkit.widgets import answers, beam, explorer, pages
from npkit.widgets.controls import set_tags
from npkit.widgets.requests import Request, arguments, as_list, command_line, from_json, to_json
from npkit.widgets.worker import Worker

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ODD = [SCRIPT, "", "   ", "a \"quoted\" fox", "-a fox", "-", "a fox\nat night", "ｔｗｏ ｃａｔｓ", "tower " * 1000,
       "a fox, " * 60, "a\0fox", "$HOME `ls` 'x'", "一只猫", "\ud800", "a castle tower", "a red fox", "an owl"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with the two policies, for all tests of this file."""
    home = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPKIT_HOME", str(home))
        fixtures_study.make_toy_study()
    return home


@pytest.fixture(autouse=True)
def npkit_home(home, monkeypatch):
    """Every test reads that home."""
    monkeypatch.setenv("NPKIT_HOME", str(home))


@pytest.fixture
def tools(npkit_home):
    return explorer.tools_of(open_run("explorer", "tiny"))


def ask(**more) -> Request:
    return Request(**{"prompt": "a red fox", "beam_size": 2, "defaults": False, "num_alternatives": 1,
                      "picture_seeds": [5]} | more)


def click(panel, name: str) -> None:
    """Press a button and wait until the work has ended."""
    panel.buttons[name].click()
    assert panel.worker.wait(120)


# 1. Requests ---------------------------------------------------------------------------------------------------------
def test_a_request_and_its_json_are_the_same():
    request = ask(wanted={"style": ["pop art"], "vibe": []}, every=["style"], patterns=[r"\d+k"], min_gain=0.5,
                  settings={"ppo.kl_coef": 0.2})
    assert from_json(to_json(request)) == request
    assert json.loads(to_json(Request(prompt="a fox"))) == {"prompt": "a fox"}


@pytest.mark.parametrize(("text", "sentence"), [
    ("{", "is no JSON"), ("[]", "is a JSON object"), ('{"beam": 3}', "unknown entry 'beam'; known: beam_size"),
    ('{"prompt": 3}', "prompt is a text"), ('{"excluded": "8k"}', "excluded is a list of texts"),
    ('{"wanted": {"mood": ["x"]}}', "wanted is an object with a list of phrases a category"),
    ('{"seed": true}', "seed is a whole number"), ('{"min_gain": "0"}', "min_gain is a number, or null")])
def test_json_that_is_no_request_gets_a_sentence(text, sentence):
    with pytest.raises(NpkitError) as caught:
        from_json(text)
    assert sentence in str(caught.value)


def test_the_command_line_is_quoted_for_a_shell():
    request = Request(prompt="a fox's \"den\"", wanted={"style": ["oil, on canvas", "pop art", 'the "x"']},
                      excluded=["-8k"], patterns=[r"\d+k"])
    line = command_line(request)
    assert line == ("""python -m npkit optimize --style '"oil, on canvas", pop art, "the ""x\"""' --exclude=-8k """
                    r"""--exclude-pattern '\d+k' 'a fox'"'"'s "den"'""")
    assert shlex.split(line)[3:] == arguments(request)
    assert as_list(["a，b", "c  d"]) == '"a,b", c d'


def random_request(rng: np.random.Generator, words: dict[str, list[str]]) -> Request:
    """Return a request with most of its fields filled at random."""
    def some(category: str, most: int = 3) -> list[str]:
        own = ["oil, on canvas", "-dashed", 'a "quoted" one'] if rng.random() < 0.1 else []
        return [*rng.choice(words[category], rng.integers(1, most + 1), replace=False).tolist(), *own]

    def maybe(value, share: float = 0.4):
        return value if rng.random() < share else None

    prompt = str(rng.choice(["a red fox", "a castle tower", "two cats, at night", "-an owl", "a 'quoted' fox", "一只"]))
    return Request(
        prompt=prompt, wanted={category: some(category) for category in CATEGORIES if rng.random() < 0.3},
        every=rng.choice(CATEGORIES, 2, replace=False).tolist(), excluded=maybe(some("booster", 1)) or [],
        patterns=maybe([str(rng.choice([r"\d+k", "render", r"\bart\b", r"photo\w*"]))]) or [],
        protected=maybe(prompt.split()[-1:]) or [], living_artists=bool(rng.random() < 0.5),
        defaults=bool(rng.random() < 0.6), beam_size=int(rng.integers(1, 4)),
        partial_weight=maybe(float(rng.integers(0, 5))), max_new_tokens=maybe(int(rng.integers(30, 70))),
        seed=int(rng.integers(0, 9)), policy=str(rng.choice(["ppo", "sft"])), num_alternatives=int(rng.integers(1, 4)))


def test_the_command_line_gives_the_same_prompt_in_fifty_random_settings(tools, capsys):
    rng = np.random.default_rng(15)
    words = {category: tools_keywords(tools, category) for category in CATEGORIES}
    written = 0
    for _ in range(50):
        request = random_request(rng, words)
        answer = answers.attempt(request, tools)
        verb, *options = shlex.split(command_line(request))[3:]
        code = main([verb, "--json", *options])
        said = capsys.readouterr()
        if isinstance(answer, str):
            assert code == 2 and said.err.startswith("npkit: ") and not said.out, command_line(request)
        else:
            found, written = json.loads(said.out), written + 1
            assert found["optimized"] == answer.found.optimized, command_line(request)
            assert found.get("protected", []) == answer.protected
            assert found["excluded"] == list(answer.found.certificate.excluded)
    assert written >= 25


def tools_keywords(tools, category: str) -> list[str]:
    from npkit.text import keywords
    return [row.phrase for row in keywords.load(tools.run.config.neurologic.keywords)[category]]


def test_a_kept_prompt_is_kept_by_the_command_too(tools, capsys):
    request = ask(min_gain=90.0, num_pictures=2)
    answer = answers.write(request, tools)
    assert answer.found.decision.kept and answer.found.optimized == "a red fox"
    assert main(["optimize", "--json", *arguments(request)[1:]]) == 0
    assert json.loads(capsys.readouterr().out)["decision"]["kept"]


# 2. Answers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("more", "sentence"), [
    ({"prompt": " \n"}, "the prompt is empty"), ({"prompt": "tower " * 1000}, "has 1000 words, at most 400"),
    ({"prompt": "a red fox " * 60}, "the policy's limit is 128"), ({"patterns": ["("]}, "is no regular expression"),
    ({"prompt": "a" * 40 + "?", "patterns": [r"(a|aa)+$"]}, "takes too long"),
    ({"wanted": {"vibe": ["moody"]}, "excluded": ["moody"]}, "'moody' is both required (vibe) and excluded"),
    ({"protected": ["blue"]}, "'blue' does not stand in the prompt"), ({"picture_seeds": []}, "picture seeds is 0"),
    ({"protected": ["fox"], "excluded": ["fox"]}, "both protected and excluded"),
    ({"num_alternatives": 99}, "alternatives is 99"), ({"seed": -1}, "seed is a whole number"),
    ({"defaults": True, "max_new_tokens": 3}, "a larger length gives more room"), ({"policy": "/nowhere"}, "no folder"),
    ({"excluded": ["fox"]}, "itself contains the excluded 'fox'"), ({"num_pictures": 1}, "needs at least 2")])
def test_bad_input_gets_one_sentence(tools, more, sentence):
    said = answers.attempt(ask(**more), tools)
    assert isinstance(said, str) and sentence in said and "\n" not in said


def test_all_of_these_are_clauses_of_their_own(tools):
    request = ask(wanted={"style": ["pop art", "anime"], "vibe": ["moody", "calm"]}, every=["style"])
    answer = answers.write(request, tools)
    assert {clause.satisfied_by.lower() for clause in answer.found.certificate.clauses[:1]} == {"pop art"}
    assert "anime" in answer.found.optimized.lower() and answer.found.certificate.holds


def test_alternatives_prices_and_the_chosen_one(tools):
    request = ask(wanted={"vibe": ["moody", "calm"]}, num_alternatives=3)
    answer = answers.with_prices(answers.write(request, tools), tools)
    assert len(answer.found.prices) == 1 and len(answer.alternatives) == 2
    chosen = answers.choose(answer, 2)
    assert chosen.found.optimized == answer.alternatives[1].prompt and chosen.found.certificate.holds
    assert {each.prompt for each in chosen.alternatives} == {answer.found.optimized, answer.alternatives[0].prompt}
    assert answers.choose(answer, 0) == answers.choose(answer, 9) == answer


def test_pictures_and_scores_of_several_seeds(tools):
    shown, request = [], ask(wanted={"format": ["pixel art"]}, picture_seeds=[3, 4])
    answer = answers.with_pictures(answers.write(request, tools), tools, show=shown.append)
    assert list(answer.pictures) == [3, 4] and answer.pictures[3].shape == (2, 3, 96, 96)
    assert list(shown[0].pictures) == [3] and shown[0].gains["oracle"][2] is None
    plain, optimized, gain = answer.gains["oracle"]
    assert gain.mean == pytest.approx(optimized - plain, abs=1e-4) and gain.n == 2 and gain.low <= gain.mean


def test_work_ends_at_the_next_token_where_it_was_cancelled(tools):
    calls = []

    def tell(*progress) -> None:
        calls.append(progress)
        if len(calls) > 6:
            raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"):
        answers.write(ask(wanted={"vibe": ["moody"]}), tools, tell)
    assert len(calls) == 7 and not tools.policy("ppo")[0]._forward_pre_hooks
    assert answers.write(ask(), tools).found.optimized  # the lock was given back


# 3. The beam ---------------------------------------------------------------------------------------------------------
def test_the_traced_search_finds_what_decode_finds(tools):
    for request in (ask(), ask(defaults=True, beam_size=4), ask(wanted={"vibe": ["moody"], "style": ["pop art"]})):
        answer = answers.write(request, tools)
        trace = explorer.traced(answer, tools)
        profile = answers.profile_of(request)
        (found,) = decode(*tools.policy("ppo"), ["a red fox"], answers.wishes_of(request, profile)("a red fox"),
                          profile.neurologic)
        assert trace.found == found and found.prompt == answer.found.optimized
        assert all(len(step) <= profile.neurologic.num_rows for step in trace.steps)
        last = [each for each in trace.winner if each][-1]
        assert len(last.met) == len(trace.clauses)
        assert "".join(trace.table()["token"]) == found.completion
        assert beam.beam_figure(trace)._repr_png_()


# 4. Pages ------------------------------------------------------------------------------------------------------------
def test_markup_is_shown_as_text(tools):
    answer = answers.write(ask(prompt=SCRIPT, wanted={"style": ["<b>pop</b> art"]}, excluded=["<i>"],
                               patterns=["<u>"], protected=["src"]), tools)
    html = pages.prompt_page(answer, {}) + pages.sent_page(answer) + pages.error_page(SCRIPT)
    assert not [tag for tag in ("<script", "<img", "<b>", "<i>", "<u>") if tag in html]
    assert "&lt;script&gt;alert(1)" in html and "&lt;b&gt;pop&lt;/b&gt; art<small>style</small>" in html.lower(), html


def test_many_excluded_phrases_are_folded(tools):
    answer = answers.write(ask(excluded=[f"word{number}" for number in range(20)]), tools)
    shown, _, more = pages.certificate(answer).partition("<summary>14 more excluded phrases")
    assert "word5" in shown and "word6" not in shown and "word19" in more
    few = pages.certificate(answers.write(ask(excluded=["fog", "mist"]), tools))
    assert "<details>" not in few and "mist" in few


def test_what_was_changed_is_marked_word_by_word():
    assert pages.difference("a Red fox", "a Red fox, moody") == "a Red fox<ins>, moody</ins>"
    assert pages.difference("a  fox", "a fox") == "a<del>  </del><ins> </ins>fox"


def test_own_words_stay_plain_and_written_phrases_have_their_colour(tools):
    answer = answers.write(ask(prompt="a moody fox", wanted={"vibe": ["moody"], "style": ["pop art"]}), tools)
    html = pages.coloured(answer, {})
    assert html.startswith("a moody fox") and html.lower().count("<mark") == 1 and "<small>style</small>" in html


@pytest.mark.parametrize("back, ink", pages.COLOURS.values(), ids=pages.COLOURS)
def test_colours_have_the_contrast_that_readers_need(back, ink):
    def luminance(colour: str) -> float:
        parts = np.array([int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)])
        parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(parts @ [0.2126, 0.7152, 0.0722])
    assert (luminance(back) + 0.05) / (luminance(ink) + 0.05) >= 7


# 5. The worker -------------------------------------------------------------------------------------------------------
def test_a_worker_says_how_it_ended():
    said, told = [], []
    worker = Worker(lambda *progress: told.append(progress), said.append)

    def fail(error: Exception):
        def work(tell):
            tell(1, 2, "failing")
            raise error
        return work

    for work in (lambda tell: tell(), fail(NpkitError("too long")), fail(KeyError("x"))):
        assert worker.start(work) and worker.wait(10)
    assert said[:2] == ["", "too long"] and said[2] == "npkit itself failed, not your request: KeyError: 'x'"
    assert told == [(1, 2, "failing")] * 2


def test_a_worker_does_one_thing_at_a_time_and_can_be_cancelled():
    said = []
    worker = Worker(lambda *progress: None, said.append)

    def endless(tell) -> None:
        while True:
            time.sleep(0.01)
            tell()

    assert worker.start(endless) and worker.busy and not worker.start(endless)
    worker.cancel()
    assert worker.wait(10) and not worker.busy and said == ["Cancelled. What was there before has been kept."]


# 6. The panel --------------------------------------------------------------------------------------------------------
@pytest.fixture
def panel(tools):
    panel = explorer.Explorer(tools, "a red fox")
    panel.controls.checks["defaults"].value = panel.controls.checks["pictures"].value = False
    panel.controls.numbers["beam_size"].value = panel.controls.numbers["num_seeds"].value = 2
    return panel


def test_a_click_shows_prompt_certificate_and_command(panel):
    set_tags(panel.controls.tags["vibe"], ["moody"])
    assert panel.buttons["cancel"].disabled and panel.buttons["explain"].disabled
    click(panel, "optimise")
    page = panel.parts["prompt"].value
    assert "oody<small>vibe</small>" in page and "added" in page and not panel.parts["error"].value
    assert "--vibe moody" in panel.parts["sent"].value and not panel.buttons["explain"].disabled
    assert panel.controls.read() == panel.history[-1].request
    assert not panel.parts["progress"].value


def test_pictures_ledger_and_beam(panel):
    panel.controls.checks["pictures"].value = True
    set_tags(panel.controls.tags["format"], ["pixel art"])
    click(panel, "optimise")
    assert panel.parts["pictures"].value.count("<img alt=") == 4
    click(panel, "repaint")
    assert list(panel.history[-1].pictures) == [2, 3] and panel.controls.numbers["first_seed"].value == 2
    click(panel, "trace")
    assert "How the beam gained" in panel.parts["beam"].value
    click(panel, "explain")
    assert "what each modifier bought" in panel.parts["ledger"].value and not panel.parts["error"].value


def test_free_phrases_are_allowed_first(panel):
    panel.controls.phrase_for.value, panel.controls.phrase.value = "style", " my  own Style "
    panel.controls.add.click()
    assert panel.controls.tags["style"].value == ["my own Style"] and not panel.controls.phrase.value
    panel.controls.add.click()
    assert "is empty" in panel.parts["error"].value
    panel.controls.phrase_for.value, panel.controls.phrase.value = "protected", "fox"
    panel.controls.add.click()
    assert panel.controls.read().protected == ("fox",) and not panel.parts["error"].value


def test_history_goes_back_and_fields_follow(panel):
    click(panel, "optimise")
    first = panel.history[0].found.optimized
    panel.controls.prompt.value = "an owl"
    set_tags(panel.controls.tags["style"], ["free style"])
    click(panel, "optimise")
    panel.undo.click()
    assert panel.controls.prompt.value == "a red fox" and panel.controls.tags["style"].value == []
    assert panel.shown().found.optimized == first and panel.undo.disabled
    panel.past.value = 1
    assert panel.controls.prompt.value == "an owl" and panel.controls.tags["style"].value == ["free style"]


def test_an_alternative_takes_the_place(panel):
    set_tags(panel.controls.tags["vibe"], ["moody"])
    click(panel, "optimise")
    second = panel.history[0].alternatives[1].prompt
    panel.other.value = 2
    panel.take.click()
    assert panel.shown().found.optimized == second and len(panel.history) == 2


def test_errors_stand_in_the_panel_and_nothing_is_lost(panel):
    click(panel, "optimise")
    before = panel.parts["prompt"].value
    panel.controls.patterns.value = "("
    click(panel, "optimise")
    assert "is no regular expression" in panel.parts["error"].value and panel.parts["prompt"].value == before
    panel.controls.patterns.value = ""
    panel.tools.lock.acquire()
    try:
        panel.buttons["optimise"].click()
        panel.buttons["cancel"].click()
    finally:
        panel.tools.lock.release()
    assert panel.worker.wait(60) and "Cancelled" in panel.parts["error"].value
    assert panel.parts["prompt"].value == before and not panel.buttons["optimise"].disabled


def test_two_panels_do_not_disturb_each_other(tools):
    one, other = (explorer.Explorer(tools, prompt) for prompt in ("a red fox", "an owl"))
    for panel in (one, other):
        panel.controls.checks["defaults"].value = panel.controls.checks["pictures"].value = False
        panel.buttons["optimise"].click()
    assert one.worker.wait(120) and other.worker.wait(120)
    assert [panel.shown().found.prompt for panel in (one, other)] == ["a red fox", "an owl"]
    assert one.tools is other.tools and one.controls.prompt is not other.controls.prompt


def test_a_hundred_random_interactions_raise_nothing(panel):
    rng = np.random.default_rng(0)
    controls = panel.controls

    def pick(values):
        return values[rng.integers(len(values))]

    actions = [
        lambda: setattr(controls.prompt, "value", pick(ODD)),
        lambda: set_tags(pick(list(controls.tags.values())), pick([["moody"], ["pop art", "x"], [SCRIPT], []])),
        lambda: setattr(pick(list(controls.manner.values())), "value", pick(["any", "all"])),
        lambda: setattr(controls.patterns, "value", pick(["(", r"(a|aa)+$", "moo", "", "<b>\n[", "x*"])),
        lambda: setattr(controls.phrase, "value", pick(["", "my own", SCRIPT])), controls.add.click,
        lambda: setattr(pick(list(controls.numbers.values())), "value", pick([0, 1, 3, 50])),
        lambda: setattr(pick(list(controls.checks.values())), "value", bool(rng.integers(2))),
        lambda: setattr(controls.choices["policy"], "value", pick(["ppo", "sft"])),
        *[panel.buttons[name].click for name in ("optimise", "optimise", "optimise", "cancel", "trace", "repaint")],
        panel.undo.click, panel.take.click, panel.worker.wait,
        lambda: panel.past.options and setattr(panel.past, "value", int(rng.integers(len(panel.past.options))))]
    for _ in range(100):
        pick(actions)()
        assert "npkit itself failed" not in panel.parts["error"].value
    assert panel.worker.wait(300) and "npkit itself failed" not in panel.parts["error"].value


# 7. A kernel ---------------------------------------------------------------------------------------------------------
CELL = """
import time
import ipywidgets
from npkit.widgets.worker import Worker
html = ipywidgets.HTML()
worker = Worker(lambda *progress: None, lambda said: setattr(html, "value", html.value + "!"))
worker.start(lambda tell: (time.sleep(1), setattr(html, "value", "from a thread")))
"""


def test_results_reach_the_browser_after_the_cell_has_completed():
    """ipykernel 7 runs no asyncio task after its cell (ipykernel 1510); what a thread sets is sent at once."""
    from jupyter_client.manager import start_new_kernel
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:
        client.execute(CELL, reply=True, timeout=120)
        values, end = [], time.monotonic() + 60
        while "from a thread!" not in values and time.monotonic() < end:
            message = client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "comm_msg":
                values.append(message["content"]["data"].get("state", {}).get("value"))
        assert values[-2:] == ["from a thread", "from a thread!"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
