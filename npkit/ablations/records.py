"""Records: the ablations as the report shows them, from this machine's runs or from the committed tables of ours."""
import io
import sys

from npkit.ablations.arms import ABLATIONS, Ablation
from npkit.ablations.tables import finding, payer, readable, results
from npkit.errors import NpkitError
from npkit.study.report import Record


def records_of(profile: str) -> list[Record]:
    """Return a record for every ablation of a profile that has results; [] where none has."""
    found = []
    for ablation in ABLATIONS.values():
        try:
            found.append(record_of(ablation, profile))
        except NpkitError as error:  # a damaged file costs its own section
            print(f"npkit: note: the report leaves out the ablation {ablation.name}: {error}", file=sys.stderr)
    return [record for record in found if record]


def record_of(ablation: Ablation, profile: str) -> Record | None:
    """Return the record of one ablation, None where it has no results."""
    table, source = results(ablation, profile)
    if not len(table):
        return None
    from npkit.figures.ablations import arms
    paid, picture = payer(ablation, profile), io.BytesIO()
    arms(table, ablation.baseline, paid).savefig(picture, format="png", dpi=110, bbox_inches="tight")
    return Record(title=f"Ablation: {ablation.name}", question=ablation.question,
                  answer=finding(table, ablation.baseline, paid), table=readable(table), figure=picture.getvalue(),
                  caption=f"Gain over the prefix by each judge ({source})", command=f"npkit ablate {ablation.name}")
