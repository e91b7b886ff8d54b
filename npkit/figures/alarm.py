"""The figure of the reward-hacking alarm: what every judge says of a training, update by update, and where it turns."""
import numpy as np
import pandas as pd

from npkit.figures.base import INK, MUTED, VARIANT_STYLE, Figure, new_figure, styled
from npkit.findings.alarm import Alarm

PAID, FALLING = VARIANT_STYLE["ppo"], VARIANT_STYLE["ppo+nl"]
QUIET = [VARIANT_STYLE[name] for name in ("sft+nl", "human", "sft", "sft+beam")]  # unpaid judges without an alarm


@styled
def hacking_curves(table: pd.DataFrame, paid: str, alarm: Alarm) -> Figure:
    """Draw the mean gain of each judge over the updates with 95 % error bars, a panel a judge, and the onset.

    `table` is that of `findings.alarm.curves`. The judge of the alarm is drawn in another colour, shaded from the onset
    on where the alarm is raised. Judges have scales of their own; the paid one is first.
    """
    names = sorted(dict.fromkeys(table["judge"]), key=lambda name: name != paid)
    figure, panels = new_figure(2.9 * len(names), 3.1, 1, len(names), sharex=True)
    quiet = iter(QUIET * len(names))
    for axes, name in zip(np.atleast_1d(panels), names, strict=True):
        rows = table[table["judge"] == name].sort_values("update")
        alarmed = alarm.raised and name == alarm.judge
        style = PAID if name == paid else FALLING if alarmed else next(quiet)
        axes.errorbar(rows["update"], rows["gain"], 1.96 * rows["error"], color=style.color, marker=style.marker, ms=5,
                      lw=1.8, elinewidth=1, capsize=2)
        axes.axhline(0, color=MUTED, lw=1, ls="--")
        if alarmed:
            axes.axvspan(alarm.onset, rows["update"].max(), color=style.color, alpha=0.12, lw=0)
        if alarm.raised and name in (paid, alarm.judge):
            axes.axvline(alarm.onset, color=INK, lw=1)
            axes.text(alarm.onset, 0.02, f" update {alarm.onset}", transform=axes.get_xaxis_transform(), fontsize=9)
        axes.set(title=f"{name} (paid)" if name == paid else name, xlabel="update")
    np.atleast_1d(panels)[0].set_ylabel("gain over the prefix")
    return figure
