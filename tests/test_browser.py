"""Browser: the constraint explorer of lesson 08 in a real JupyterLab, in Debian's Chromium without a screen.

Screenshots go to $NPKIT_SCREENSHOTS, and the study is that of $NPKIT_STUDY, where these are set: those in `figures/`
were made from a trained study. Without them the policies have random weights, which is enough for a test.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import fixtures_study
import pytest
from conftest import ROOT

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
WAIT = 120_000  # milliseconds that a step may take on a busy machine
LETTERS = "aAbBcCdDfFhHjJkKlLmMoOrRsSvVxXyYzZ"  # among them all the letters that are shortcuts of JupyterLab
PATIENT = {"timeout": WAIT}
UNLABELLED = ("label", "button-name", "select-name", "image-alt", "aria-input-field-name", "aria-progressbar-name",
              "duplicate-id-aria", "input-button-name", "link-name")
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"}, "docmanager-extension/plugin": {"autosave": False}}
pytestmark = [pytest.mark.slow, pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the path: apt-get install chromium lets the browser tests run")]


# 1. JupyterLab and a page --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The home of a study: that of $NPKIT_STUDY, or one whose policies have random weights."""
    if given := os.environ.get("NPKIT_STUDY"):
        return Path(given)
    home = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPKIT_HOME", str(home))
        fixtures_study.make_toy_study()
    return home


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    """Where screenshots go."""
    folder = Path(os.environ.get("NPKIT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def lab(study, tmp_path_factory):
    """The address of a JupyterLab that shows the lessons."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    shutil.copytree(ROOT / "figures", folder / "figures")
    for name, values in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    port = free_port()
    variables = {"NPKIT_HOME": str(study), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "HOME": str(folder),
                 "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "JUPYTER_CONFIG_DIR": str(folder / "config"),
                 "PYTHONPATH": str(ROOT)}
    with open(folder / "lab.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
             "--IdentityProvider.token=t", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"],
            env=os.environ | variables, stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token=t", folder / "lab.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(address: str, log: Path) -> None:
    """Wait until a server answers, whatever it answers."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab does not answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser, lab):
    """Lesson 08 after "run all", in a window of 1280 pixels; `errors` has what the console calls errors."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(WAIT)
    page.errors = []
    page.on("console", lambda said: page.errors.append(f"{said.text} {said.location['url']}")
            if said.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(f"{lab}/lab/tree/notebooks/08_constraint_explorer.ipynb?token=t")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for()
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status == 'idle'")
    page.wait_for_timeout(2000)  # JupyterLab may start a second kernel in the place of the first
    page.wait_for_function("window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status == 'idle'")
    execute(page, "application:toggle-left-area")
    execute(page, "notebook:run-all-cells")
    panel(page).wait_for()
    return page


def execute(page, command: str, **arguments) -> None:
    """Run a command of JupyterLab, as a menu does."""
    page.evaluate("([name, given]) => { window.jupyterapp.commands.execute(name, given) }", [command, arguments])


def panel(page):
    """The panel, in the output of its cell."""
    return page.locator(".npkit-panel").first


def field(page, name: str):
    """The field with a label."""
    return panel(page).get_by_label(name, exact=True)


def button(page, name: str):
    return panel(page).get_by_role("button", name=name, exact=True)


def idle(page) -> None:
    """Wait until the panel can be used."""
    page.wait_for_function("() => [...document.querySelectorAll('.npkit-panel button')].find("
                           "each => each.textContent.trim() == 'Optimise' && !each.disabled)")


def press(page, name: str) -> None:
    """Press a button of the panel and wait until the work has ended."""
    button(page, name).click()
    page.wait_for_timeout(300)
    idle(page)


def tags(page, name: str):
    """The field into which tags of a kind are typed."""
    return panel(page).get_by_placeholder(f"add {name}")


def add_tag(page, name: str, phrase: str) -> None:
    """Type a phrase into a field of tags and press Tab.

    Not Enter: JupyterLab 4.6 keeps it from the fields of a cell's output, so that TagsInput never hears of the change.
    """
    tags(page, name).click()
    page.keyboard.type(phrase)
    page.keyboard.press("Tab")
    panel(page).locator("div.jupyter-widget-tag", has_text=phrase).wait_for()


def shoot(page, shots: Path, name: str) -> None:
    """Save a picture of the panel, in a window that is high enough for all of it."""
    size = page.viewport_size
    page.set_viewport_size(size | {"height": 600 + int(panel(page).bounding_box()["height"])})
    page.wait_for_timeout(500)
    panel(page).scroll_into_view_if_needed()
    panel(page).screenshot(path=shots / f"08_{name}.png")
    page.set_viewport_size(size)


# 2. The tests, in the order of a visit -------------------------------------------------------------------------------
def test_run_all_shows_the_panel(page, shots):
    assert field(page, "prompt").input_value() == "a castle tower"
    page.wait_for_function("() => document.querySelector('.jp-Notebook').innerText.includes('[*]') == false")
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    shoot(page, shots, "empty")


def test_letters_go_into_the_fields_and_not_into_shortcuts(page):
    count = page.locator(".jp-Notebook .jp-Cell").count()
    fields = panel(page).locator("textarea:visible:not([readonly]), input[type=text]:visible")
    assert fields.count() == 11  # prompt, patterns, own phrase, six categories, forbidden, protected
    for number in range(fields.count()):
        one = fields.nth(number)
        before = one.input_value()
        one.click()
        one.press("End")
        page.keyboard.type(LETTERS)
        assert one.input_value() == before + LETTERS, f"field {number} lost letters"
        for _ in LETTERS:
            page.keyboard.press("Backspace")
        assert one.input_value() == before
    assert page.locator(".jp-Notebook .jp-Cell").count() == count


def test_tags_are_added_and_removed(page):
    add_tag(page, "a vibe", "moody")
    page.keyboard.press("Backspace")
    page.wait_for_function("() => ![...document.querySelectorAll('.npkit-panel .jupyter-widget-tag')].some("
                           "each => each.textContent.includes('moody'))")
    field(page, "own phrase for").select_option("style")
    field(page, "phrase").fill("my own Style")
    button(page, "Add").click()
    panel(page).locator(".jupyter-widget-tag", has_text="my own Style").wait_for()
    tags(page, "a style").click()
    page.keyboard.press("Backspace")


def test_optimise_shows_prompt_pictures_and_scores(page, shots):
    for name, phrase in (("a vibe", "moody"), ("a format", "oil painting")):
        add_tag(page, name, phrase)
    press(page, "Optimise")
    panel(page).get_by_text("Certificate").wait_for()
    assert panel(page).locator("mark").count() >= 2
    assert panel(page).locator("figure img").count() == 8
    assert panel(page).locator("td", has_text="oracle").count() == 1
    shoot(page, shots, "result")


def test_ledger_and_beam(page, shots):
    press(page, "Beam")
    panel(page).get_by_text("How the beam gained its clauses").wait_for()
    shoot(page, shots, "panel_beam")


def test_work_is_cancelled(page):
    button(page, "Advanced").click()
    field(page, "picture seeds").fill("16")
    page.keyboard.press("Tab")
    button(page, "Optimise").click()
    panel(page).get_by_text("Certificate").wait_for()
    button(page, "Cancel").click()
    panel(page).get_by_role("alert").filter(has_text="Cancelled").wait_for()
    idle(page)
    field(page, "picture seeds").fill("2")
    page.keyboard.press("Tab")
    button(page, "Advanced").click()


def test_an_error_is_said_in_words(page, shots):
    patterns = field(page, "patterns")
    patterns.fill("(")
    button(page, "Optimise").click()
    panel(page).get_by_role("alert").filter(has_text="is no regular expression").wait_for()
    idle(page)
    shoot(page, shots, "error")
    patterns.fill("")
    page.keyboard.press("Tab")


def test_markup_is_shown_and_not_executed(page):
    prompt = field(page, "prompt")
    prompt.fill("a fox <img src=x onerror=\"window.hit = 1\"><script>window.hit = 2</script>")
    press(page, "Optimise")
    assert page.evaluate("window.hit") is None
    assert "<script>" in panel(page).locator("p", has_text="a fox <img").first.inner_text()
    prompt.fill("a castle tower")


def test_by_keyboard_alone(page):
    """From the prompt by Tab to Optimise, without a mouse; tags on the way are typed."""
    field(page, "prompt").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("an old castle tower")
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("() => document.activeElement.placeholder || document.activeElement.textContent.trim()")
        seen.append(name)
        if name == "add a booster":
            page.keyboard.type("8k")
            page.keyboard.press("Tab")  # adds it; the next one leads on
            panel(page).locator("div.jupyter-widget-tag", has_text="8k").wait_for()
        if name == "Optimise":
            break
    assert {"add a style", "add a booster", "add a forbidden phrase", "add a protected word", "Advanced"} <= set(seen)
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    idle(page)
    assert "an old castle tower" in panel(page).locator("ins").first.locator("xpath=..").inner_text()


def test_every_control_has_a_name(page):
    from axe_playwright_python.sync_playwright import Axe
    button(page, "Advanced").click()
    found = Axe().run(page, context=".npkit-panel").response["violations"]
    wrong = {each["id"]: [node["html"][:200] for node in each["nodes"]] for each in found
             if each["id"] in UNLABELLED or each["impact"] == "critical"}
    button(page, "Advanced").click()
    assert not wrong


def test_a_window_of_900_pixels_holds_the_panel(page, shots):
    page.set_viewport_size({"width": 900, "height": 1000})
    page.wait_for_timeout(1000)
    width, needed = page.evaluate("() => { const p = document.querySelector('.npkit-panel');"
                                  "return [p.clientWidth, p.scrollWidth] }")
    shoot(page, shots, "narrow")
    page.set_viewport_size({"width": 1280, "height": 1000})
    assert needed <= width + 1


def test_the_dark_theme_is_readable(page, shots):
    execute(page, "apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight == 'false'")
    page.wait_for_timeout(1500)
    shoot(page, shots, "dark")


def test_the_console_has_no_error(page):
    own = [said for said in page.errors if "favicon" not in said]
    assert not own


def test_voila_serves_the_same_panel_without_code(browser, study, tmp_path):
    """`make app`, on another port."""
    port, log = free_port(), tmp_path / "voila.log"
    with open(log, "wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "voila", "notebooks/08_constraint_explorer.ipynb", "--no-browser", f"--port={port}"],
            env=os.environ | {"NPKIT_HOME": str(study), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}, cwd=ROOT,
            stdout=file, stderr=file)
    try:
        wait_for(f"http://127.0.0.1:{port}/voila/static/none", log)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(WAIT)
        page.goto(f"http://127.0.0.1:{port}/")
        press(page, "Optimise")
        panel(page).get_by_text("Certificate").wait_for()
        assert page.locator(".jp-CodeCell .cm-editor, .jp-InputArea-editor:visible").count() == 0
        assert page.locator("img[alt='You are here']").evaluate("each => each.naturalWidth") > 100
        page.close()
    finally:
        server.terminate()
        server.wait(30)
