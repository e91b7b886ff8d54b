"""Pages: an answer as HTML for a panel or a notebook; every text of the user's or the policy's is escaped."""
import base64
import difflib
import io
import re
from collections.abc import Iterable
from html import escape

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from npkit.findings.ledger import readable
from npkit.findings.stats import Interval
from npkit.optimize import Optimized
from npkit.text.keywords import CATEGORIES, Keywords, word_pattern
from npkit.text.modifiers import category_of
from npkit.widgets.answers import Answer
from npkit.widgets.requests import command_line, to_json

COLOURS = {"style": ("#dbeafe", "#1e3a8a"), "artist": ("#fce7f3", "#831843"), "format": ("#dcfce7", "#14532d"),
           "perspective": ("#fef3c7", "#713f12"), "booster": ("#ede9fe", "#4c1d95"), "vibe": ("#ffe4d6", "#7c2d12"),
           "require": ("#e5e7eb", "#111827")}  # background and letters: contrast above 7 in light and dark themes
MAX_EXCLUDED = 6  # rows of the certificate before the others are folded: living artists are many
INK, PAPER, LINE = "var(--jp-ui-font-color1, #222)", "var(--jp-layout-color1, #fff)", "var(--jp-border-color1, #999)"
STYLE = f"""<style>
.npkit-panel {{ max-width: 1200px; color: {INK}; }}
.npkit-page {{ line-height: 1.5; color: {INK}; overflow-wrap: anywhere; font-size: 14px; }}
.npkit-page mark {{ padding: 1px 4px; border-radius: 4px; }}
.npkit-page mark small {{ font-size: 10px; margin-left: 4px; }}
.npkit-page ins {{ background: #dcfce7; color: #14532d; text-decoration: none; }}
.npkit-page del {{ background: #fee2e2; color: #7f1d1d; }}
.npkit-page h4 {{ margin: 10px 0 2px; font-size: 14px; }}
.npkit-page table {{ border-collapse: collapse; margin: 4px 0; font-size: 13px; color: {INK}; background: {PAPER}; }}
.npkit-page th, .npkit-page td {{ border: 1px solid {LINE}; padding: 2px 8px; text-align: left; vertical-align: top;
                                   overflow-wrap: break-word; }}
.npkit-page figure {{ display: inline-block; margin: 4px 6px 4px 0; width: 126px; vertical-align: top; }}
.npkit-page figure img {{ width: 126px; height: auto; border: 1px solid {LINE}; box-sizing: border-box; }}
.npkit-page .npkit-pair {{ white-space: nowrap; margin-right: 4px; }}
.npkit-page figcaption {{ font-size: 12px; }}
.npkit-page .npkit-wide {{ overflow-x: auto; }}
.npkit-page .npkit-wide img {{ max-width: 100%; background: #fff; }}
.npkit-page summary {{ cursor: pointer; }}
.npkit-page .npkit-error {{ border-left: 4px solid #b91c1c; padding: 4px 10px; background: #fee2e2; color: #7f1d1d; }}
.npkit-page textarea {{ width: 100%; box-sizing: border-box; font-family: monospace; font-size: 12px; color: {INK};
                        background: {PAPER}; border: 1px solid {LINE}; }}
.npkit-panel .jupyter-widget-tagsinput {{ flex: 1 1 240px; min-width: 0; border: 1px solid {LINE}; height: auto; }}
.npkit-panel .jupyter-widget-tagsinput > div {{ display: inline-block !important; width: auto; flex: 0 1 auto; }}
.npkit-panel .jupyter-widget-taginput {{ color: {INK}; background: {PAPER}; }}
.npkit-panel textarea::placeholder {{ color: {INK}; opacity: 0.85; }}
.npkit-panel .jupyter-widget-taginput::placeholder {{ color: {INK}; opacity: 0.85; }}
.npkit-panel :focus-visible {{ outline: 2px solid #2563eb; outline-offset: 1px; }}
</style>"""


def page(*parts: str) -> str:
    """Return parts of a page as one."""
    return f'<div class="npkit-page">{"".join(filter(None, parts))}</div>'


# 1. The prompt -------------------------------------------------------------------------------------------------------
def prompt_page(answer: Answer, keywords: Keywords) -> str:
    """Return the optimised prompt with its phrases coloured by category, what changed, certificate, alternatives."""
    found = answer.found
    changes = difference(found.typed or found.prompt, found.optimized)
    return page(decision(found), "<h4>Optimised prompt</h4>", f"<p>{coloured(answer, keywords)}</p>",
                "<h4>Changes to what was typed</h4>", f"<p>{changes}</p>",
                "<h4>Certificate</h4>", certificate(answer), alternatives(answer))


def coloured(answer: Answer, keywords: Keywords) -> str:
    """Return the optimised prompt, the phrases behind the user's own words marked by their category."""
    text, own = answer.found.optimized, len(answer.found.prompt)
    parts, at = [], 0
    for start, end, category in phrases_in(answer, keywords):
        if start < max(at, own):
            continue
        back, ink = COLOURS.get(category, COLOURS["require"])
        label = f"{escape(text[start:end])}<small>{escape(category)}</small>"
        parts += [escape(text[at:start]), f'<mark style="background:{back};color:{ink}">{label}</mark>']
        at = end
    return "".join(parts) + escape(text[at:])


def phrases_in(answer: Answer, keywords: Keywords) -> list[tuple[int, int, str]]:
    """Return start, end and category of each known or demanded phrase of a prompt, in order; the longest one first."""
    categories = {phrase: category.partition("/")[0] for phrase, category in category_of(keywords).items()}
    categories |= {" ".join(phrase.split()).casefold(): category for category in CATEGORIES
                   for phrase in answer.request.wanted.get(category, ())}
    pattern = word_pattern(tuple(categories))
    return [(match.start(), match.end(), categories.get(match.group().casefold(), "require"))
            for match in pattern.finditer(answer.found.optimized)]


def difference(typed: str, optimized: str) -> str:
    """Return what was typed with what was taken away struck out and what was added marked, word by word."""
    before, after = re.findall(r"\s+|\w+|[^\w\s]", typed), re.findall(r"\s+|\w+|[^\w\s]", optimized)
    parts = []
    for kind, left, right, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        old, new = escape("".join(before[left:right])), escape("".join(after[start:end]))
        parts.append(old if kind == "equal" else (f"<del>{old}</del>" if old else "") + (
            f"<ins>{new}</ins>" if new else ""))
    return "".join(parts)


def certificate_table(answer: Answer) -> pd.DataFrame:
    """Return the certificate as a table: what meets each clause, whose words those are, and what the clause costs."""
    found, rows = answer.found, []
    for number, clause in enumerate(found.certificate.clauses):
        own = clause.end is not None and clause.end <= len(found.prompt)
        met = clause.satisfied_by or "-" if clause.holds else "NOT MET"
        price = f"{found.prices[number] + 0.0:.2f}" if found.prices else "-"
        rows.append((clause.category, met, "your own" if own else "added" if clause.holds else "-", price,
                     "any of: " + ", ".join(clause.any_of)))
    rows += [("excluded", phrase, "PRESENT" if phrase in found.certificate.violations else "absent", "-", "")
             for phrase in found.certificate.excluded]
    rows += [("forbidden pattern", pattern, "no match", "-", "") for pattern in answer.request.patterns]
    rows += [("protected", word["phrase"], "as typed", "-", f"characters {word['start']} to {word['end']}")
             for word in answer.protected]
    return pd.DataFrame(rows, columns=["clause", "phrase", "where", "price in nats", "demanded"])


def certificate(answer: Answer) -> str:
    """Return the certificate as an HTML table; many excluded phrases are folded."""
    rows = certificate_table(answer)
    excluded = rows[rows["clause"] == "excluded"]
    folding = excluded.index[MAX_EXCLUDED:] if len(excluded) > MAX_EXCLUDED + 1 else excluded.index[:0]
    more = folded(f"{len(folding)} more excluded phrases", table(rows.loc[folding])) if len(folding) else ""
    return table(rows.drop(folding)) + more if len(rows) else "<p>Nothing was demanded and nothing forbidden.</p>"


def alternatives_table(answer: Answer) -> pd.DataFrame:
    """Return the next best prompts with how much likelier the policy finds the best one."""
    best = answer.found.logprob
    rows = [(number, each.prompt, "-" if best is None else f"{each.logprob - best:+.2f}")
            for number, each in enumerate(answer.alternatives, 1)]
    return pd.DataFrame(rows, columns=["number", "prompt", "log-probability beside the best, in nats"])


def alternatives(answer: Answer) -> str:
    """Return the alternatives, folded."""
    if not answer.alternatives:
        return ""
    return folded(f"{len(answer.alternatives)} alternatives", table(alternatives_table(answer)))


def decision(found: Optimized) -> str:
    """Return whether the user's own prompt was kept, and why."""
    if not found.decision:
        return ""
    words = "Your own prompt is kept" if found.decision.kept else "The optimised prompt is taken"
    rejected = f" Rejected: {escape(found.decision.rejected)}" if found.decision.rejected else ""
    return f"<p><strong>{words}:</strong> {escape(found.decision.why)}.{rejected}</p>"


# 2. Pictures, scores, ledger -----------------------------------------------------------------------------------------
def pictures_page(answer: Answer) -> str:
    """Return both pictures of each seed side by side, and every judge's scores."""
    texts = {"typed": answer.found.prompt, "optimised": answer.found.written}
    pairs = ["".join(figure(picture, f"{words}, seed {seed}", text)
                     for picture, (words, text) in zip(pair, texts.items(), strict=True))
             for seed, pair in answer.pictures.items()]
    return page("<h4>Pictures of both prompts from the same seeds</h4>",
                " ".join(f'<span class="npkit-pair">{pair}</span>' for pair in pairs),
                "<h4>Scores</h4>", table(scores_table(answer)))


def scores_table(answer: Answer) -> pd.DataFrame:
    """Return by judge the mean scores of both prompts, and the gain with its interval over the picture seeds."""
    rows = [(judge, f"{plain:.3f}", f"{optimized:.3f}", gain_words(plain, optimized, gain))
            for judge, (plain, optimized, gain) in answer.gains.items()]
    count = len(answer.pictures)
    return pd.DataFrame(rows, columns=["judge", "typed", "optimised",
                                       f"gain [95 %], {count} picture seed{'s' if count > 1 else ''}"])


def gain_words(plain: float, optimized: float, gain: Interval | None) -> str:
    """Return a gain with its interval, or say that one picture has none."""
    return readable(gain) if gain else f"{optimized - plain:+.2f}, no interval"


def figure(picture: Tensor, title: str, text: str) -> str:
    """Return a picture (3, height, width) in [0, 1] with its title; `text` is what it was painted from."""
    return (f'<figure><img alt="{escape(title)}: picture of {escape(text)}" src="{address(picture)}">'
            f"<figcaption>{escape(title)}</figcaption></figure>")


def address(picture: Tensor) -> str:
    """Return a picture as an address that holds all of it."""
    pixels = (np.asarray(picture).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def ledger_page(answer: Answer) -> str:
    """Return what each added modifier bought."""
    ledger = answer.found.ledger
    if not ledger.entries:
        return page("<h4>Ledger</h4><p>The policy added no modifier.</p>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in [*ledger.notes, *ledger.failed.values()])
    return page(f"<h4>Ledger: what each modifier bought, mean of {len(ledger.seeds)} pictures [95 %]</h4>",
                table(ledger.table()), notes)


def beam_page(png: bytes, steps: pd.DataFrame, words: str) -> str:
    """Return the picture of a search with its table."""
    picture = f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return page("<h4>How the beam gained its clauses</h4>", f'<div class="npkit-wide">{picture}</div>',
                folded("The same as a table", table(steps.reset_index())))


# 3. What was sent, errors --------------------------------------------------------------------------------------------
def sent_page(answer: Answer) -> str:
    """Return the request as JSON and as a command line, to copy."""
    return page(folded("What was really sent, to copy",
                       copyable("Command line, which gives the same prompt", command_line(answer.request)),
                       copyable("JSON", to_json(answer.request))))


def copyable(label: str, text: str) -> str:
    """Return a text in a field from which it can be copied."""
    lines = min(14, text.count("\n") + 2 + len(text) // 150)
    return f'<h4>{label}</h4><textarea readonly rows="{lines}" aria-label="{label}">{escape(text)}</textarea>'


def error_page(sentence: str) -> str:
    """Return an error in words, which a screen reader says at once."""
    return page(f'<p class="npkit-error" role="alert">{escape(sentence)}</p>') if sentence else ""


def progress_page(done: int, total: int, words: str) -> str:
    """Return a progress bar; "" of 0 steps."""
    if not total:
        return ""
    return page(f'<label>{escape(words)} <progress max="{total}" value="{done}"></progress> step {done} of {total}'
                "</label>")


def table(rows: pd.DataFrame) -> str:
    """Return a table as HTML, every cell escaped."""
    head = cells("th", rows.columns)
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows.itertuples(index=False))
    return f'<div class="npkit-wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def cells(tag: str, values: Iterable) -> str:
    """Return cells of a row."""
    return "".join(f"<{tag}>{escape(str(value))}</{tag}>" for value in values)


def folded(summary: str, *parts: str) -> str:
    """Return parts behind a line that opens them."""
    return f"<details><summary>{escape(summary)}</summary>{''.join(parts)}</details>"

