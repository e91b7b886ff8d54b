"""Answers: the question of each stage, and its answer in a sentence that is computed from the study's own numbers.

A sentence says what was measured in this study, whatever it is; it claims nothing that another study could contradict.
"""
from collections.abc import Callable, Mapping, Sequence

from npkit.study.artifacts import Run

QUESTIONS = {
    "glyphworld": "How much can the words of a prompt do for its picture, in the eyes of the public?",
    "data": "What do people write, and what is kept for which purpose?",
    "sft": "How well does the fine-tuned policy foresee what people write?",
    "reward": "How often does a judge that learnt from votes agree with a vote?",
    "ppo": "What does PPO gain by the judge that pays it, and how far does it move away from SFT?",
    "neurologic": "Are all demanded phrases written, and what do they cost?",
    "evaluation": "Which prompts make the better pictures, and do judges that were not paid agree?",
    "ablations": "What do a clause of style and a clause of vibe add, alone and together?",
    "explorer": "Does the panel's way to a prompt keep what is demanded, forbidden and protected?",
    "preference": "Which pictures do raters choose, by which question, and what can their votes teach a judge?",
}
Metrics = Mapping[str, float]
CONTRAST = "ppo_minus_sft"  # of the metrics: what PPO added, in each judge's eyes


def answer(run: Run) -> str:
    """Return the answer of a stage, or what is missing for one."""
    if run.artifact is None:
        changed = run.changed()
        since = f" (changed since the last: {', '.join(changed[:3])})" if changed else ""
        return f"Not run yet{since}: {run.command(run.stage)}"
    try:
        return ANSWERS.get(run.stage, first_metrics)(run.artifact.metrics, run)
    except KeyError as error:
        return f"No answer: the artifact has no metric {error}; npkit run makes it anew where the lesson has changed."


def first_metrics(metrics: Metrics, run: Run, count: int = 3) -> str:
    """Return the first metrics of a stage that has no sentence of its own."""
    return "; ".join(f"{name} {value:,.6g}" for name, value in list(metrics.items())[:count]) or "It has no metrics."


def about_glyphworld(metrics: Metrics, run: Run) -> str:
    """Return what words are worth to the public."""
    gains = {name: metrics[f"oracle/{name}"] - metrics["oracle/prefix"] for name in ("human", "one_suffix", "suited")}
    return (f"Beside the bare prefix, people's prompts gain {signed(gains['human'])}, the best suffix for all prefixes "
            f"{signed(gains['one_suffix'])}, and words sought for each prefix {signed(gains['suited'])}, in standard "
            "deviations of utility.")


def about_data(metrics: Metrics, run: Run) -> str:
    """Return what was kept, and how it was split."""
    parts = ", ".join(f"{metrics[f'data/num_{split}']:,.0f} for {purpose}" for split, purpose in (
        ("sft", "SFT"), ("ppo", "PPO"), ("validation", "validation"), ("test", "the test")))
    return (f"{metrics['data/kept_share']:.1%} of what was read is kept: {metrics['data/num_prompts']:,.0f} prompts "
            f"with {metrics['data/num_prefixes']:,.0f} different prefixes, {parts}.")


def about_sft(metrics: Metrics, run: Run) -> str:
    """Return the perplexity and what was learnt by heart."""
    return (f"After {metrics['sft/num_steps']:,.0f} steps its perplexity is {metrics['eval/perplexity']:.2f} on "
            f"prompts that it has not seen; {metrics['sft/memorised_share']:.1%} of sampled prompts occur word by word "
            "in training.")


def about_reward(metrics: Metrics, run: Run) -> str:
    """Return the agreements of judges and raters."""
    return (f"The lesson's judge agrees with {metrics['reward/judge']:.1%} of held-out votes, the shipped one with "
            f"{metrics['reward/shipped']:.1%}, a single rater with {metrics['reward/single_rater']:.1%}; no judge "
            f"could agree with more than {metrics['reward/ceiling']:.1%}.")


def about_ppo(metrics: Metrics, run: Run) -> str:
    """Return the scores before and after, and the distance from SFT."""
    first, last = metrics["objective/first_score"], metrics["objective/score"]
    heldout = (f", and on held-out prefixes with other pictures {signed(metrics['eval/score'])}"
               if "eval/score" in metrics else "")
    return (f"The gain by {paid(run)} goes from {signed(first)} to {signed(last)} in {metrics['episodes']:,.0f} "
            f"episodes{heldout}; a completion then lies {metrics['objective/kl']:.1f} nats from SFT, and "
            f"{metrics['objective/distinct_share']:.0%} of a rollout's completions are different.")


def about_neurologic(metrics: Metrics, run: Run) -> str:
    """Return how many clauses are met, and what they cost each policy."""
    named = "decode/logprob/"
    costs = {policy: metrics[f"{named}{policy}+beam"] - metrics[f"{named}{policy}+nl"] for policy in ("sft", "ppo")}
    return (f"{metrics['decode/clause_coverage']:.1%} of the clauses are met and {metrics['decode/violations']:,.0f} "
            "forbidden phrases are found; beside the same search without clauses a completion loses "
            f"{costs['sft']:.1f} nats under SFT and {costs['ppo']:.1f} under PPO.")


def about_evaluation(metrics: Metrics, run: Run) -> str:
    """Return the best variant by the paid judge, and who agrees that PPO is better than SFT."""
    judges = [judge.name for judge in run.config.judges if f"{CONTRAST}/{judge.name}" in metrics]
    by = next(iter(run.config.ppo.weights))
    gains = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{by}_gain/")}
    if not gains:
        raise KeyError(f"{by}_gain/...")
    best = max(gains, key=gains.get)
    interval = between(metrics[f"{by}_gain_low/{best}"], metrics[f"{by}_gain_high/{best}"])
    return (f"By {by}, which PPO was paid by, {best} gains most over the prefix: {signed(gains[best])} {interval}. "
            f"{verdicts(metrics, judges)}".rstrip())


def verdicts(metrics: Metrics, judges: Sequence[str]) -> str:
    """Return which judges say that PPO made better prompts than SFT, which say worse, and which leave it open."""
    said: dict[str, list[str]] = {"better than": [], "worse than": [], "not clearly other than": []}
    for judge in judges:
        mean, low, high = (metrics[f"{CONTRAST}/{judge}{end}"] for end in ("", "_low", "_high"))
        word = "better than" if low > 0 else "worse than" if high < 0 else "not clearly other than"
        said[word].append(f"{judge} ({signed(mean)} {between(low, high)})")
    sentences = [f"ppo is {word} sft by {join(names)}" for word, names in said.items() if names]
    return f"{'; '.join(sentences)}." if sentences else ""


def about_ablations(metrics: Metrics, run: Run) -> str:
    """Return what two clauses add together beyond what each adds alone, by the last judge."""
    judge = run.config.judges[-1].name
    gains = {name.rpartition("/")[2]: value for name, value in metrics.items() if name.startswith(f"gain/{judge}/")}
    none, one, other, both = gains.values()  # in the order of the lesson: no clause, each alone, both
    names = list(gains)[1:3]
    return (f"By {judge}, a clause of {names[0]} adds {signed(one - none)}, one of {names[1]} {signed(other - none)}, "
            f"and both {signed(both - none)}, which is {signed(both - one - other + none)} beyond the sum.")


def about_explorer(metrics: Metrics, run: Run) -> str:
    """Return what the lesson's requests came to."""
    return (f"Of {metrics['explorer/num_requests']:,.0f} requests, {metrics['explorer/clause_coverage']:.0%} of the "
            f"clauses hold, {metrics['explorer/violations']:,.0f} forbidden phrases or patterns occur, and "
            f"{metrics['explorer/protected_share']:.0%} of the protected words stand as typed.")


def about_preference(metrics: Metrics, run: Run) -> str:
    """Return who wins by each question, and what a judge has learnt, by the cast whose votes taught it."""
    cast = [name.partition("/")[2] for name in metrics if name.startswith("learnt/")][-1]
    best = {}
    for question in ("prettier", "shows"):
        named = f"strength/{cast}/{question}/"
        best[question] = max((name for name in metrics if name.startswith(named)), key=metrics.get).removeprefix(named)
    gain, low, high = (metrics[f"{name}/{cast}"] for name in ("learnt", "learnt_low", "learnt_high"))
    return (f"By {metrics[f'num_votes/{cast}']:,.0f} votes of {cast}, {best['prettier']} makes the prettiest pictures "
            f"and {best['shows']} shows the prompt best. A judge that learnt from them agrees with held-out votes in "
            f"{signed(100 * gain)} {between(100 * low, 100 * high)} more cases of 100.")


ANSWERS: dict[str, Callable[[Metrics, Run], str]] = {
    "glyphworld": about_glyphworld, "data": about_data, "sft": about_sft, "reward": about_reward, "ppo": about_ppo,
    "neurologic": about_neurologic, "evaluation": about_evaluation, "ablations": about_ablations,
    "explorer": about_explorer, "preference": about_preference}


def paid(run: Run) -> str:
    """Return the names of the judges that PPO is paid by."""
    return join(list(run.config.ppo.weights))


def join(names: Sequence[str]) -> str:
    """Return names as an enumeration."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def signed(number: float) -> str:
    """Return a number with its sign and two decimals, with the typographer's minus."""
    return f"{round(number, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def between(low: float, high: float) -> str:
    """Return the ends of an interval."""
    return f"[{round(low, 2) + 0.0:.2f}, {round(high, 2) + 0.0:.2f}]".replace("-", "\N{MINUS SIGN}")
