"""Pages: every link of README, the manual and the glossary leads somewhere, and every command they show is one."""
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT

from npkit.__main__ import build_parser
from npkit.study.profiles import load_profile, parse_settings

PAGES = [ROOT / "README.md", ROOT / "MANUAL.md", ROOT / "notebooks" / "GLOSSARY.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a code host gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page: Path) -> list[str]:
    """Return the lines of a page's code blocks that call npkit."""
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line.removeprefix(".venv/bin/") for line in lines if re.match(r"(\.venv/bin/)?npkit ", line)]


@each_page
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links
    for link in links:
        name, _, anchor = link.partition("#")
        if not name.startswith(("https://", "http://")):
            target = page.parent / name if name else page
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("command", [line for page in PAGES[:2] for line in commands(page)])
def test_commands_are_commands(command):
    _, *words = shlex.split(command)
    args = build_parser().parse_args(words[:words.index("<")] if "<" in words else words)
    yours = ("prompts.jsonl", "votes/")  # files that a reader has, and a test has not
    settings = parse_settings(text for text in getattr(args, "settings", []) if not any(name in text for name in yours))
    assert load_profile("paper" if "ppo.reward_weights" in settings else "tiny", settings)  # it has a clipscore
