"""Odd corpora: every notebook runs on the smallest and oddest corpora that the plan accepts, with toy models."""
import fixtures_models as fixtures
import pytest
from conftest import ROOT
from IPython.core.interactiveshell import InteractiveShell

from npkit.study import runner
from npkit.study.artifacts import STAGES, open_run

TOY = {"policy.num_layers": 1, "policy.hidden_size": 16, "policy.num_heads": 2, "policy.vocab_size": 300,
       "policy.max_prompt_tokens": 320, "sft.max_steps": 2, "sft.batch_size": 4, "data.validation_share": 0.25,
       "data.ppo_share": 0.25, "data.test_share": 0.25, "ppo.num_updates": 1, "ppo.num_ppo_epochs": 1,
       "ppo.episodes_per_update": 4, "ppo.minibatch_size": 4, "ppo.max_new_tokens": 6, "ppo.min_distinct_share": 0.0,
       "images.height": 96, "images.width": 96, "images.num_inference_steps": 1, "evaluation.num_prefixes": 4,
       "evaluation.max_new_tokens": 6, "evaluation.bootstrap_samples": 50, "neurologic.beam_size": 2,
       "neurologic.max_new_tokens": 32, "ablation.best_of": 8, "ablation.prefixes_a_draw": 2,
       "runtime.num_threads": 1}
KEYWORDS = {"style": "ink", "artist": "dix", "format": "oil", "perspective": "up", "booster": "8k", "vibe": "sad"}
CORPORA = {  # 16 prefixes: four in each split, the fewest that the plan accepts
    "Chinese without commas": ([f"一只{colour}猫坐在{place}上" for colour in "红白黑蓝" for place in "山海云月"], {}),
    "banned words in every prefix": ([f"{n} cats at night 8k highly detailed {'🐈' * n}" for n in range(1, 17)],
                                     {"neurologic.compat": "neuroprompts", "ppo.algorithm": "grpo",
                                      "ppo.num_generations": 2, "data.prefix_rule": "full"}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    """The settings that name an image model and judges with small random weights."""
    folder = tmp_path_factory.mktemp("models")
    clip = str(fixtures.save_clip(folder / "clip", size=32))
    return {"images.model": str(fixtures.save_pipeline(folder / "diffusion")),
            "judges.aesthetic.head": str(fixtures.save_head(folder / "head.safetensors")),
            **{f"judges.{judge}.model": clip for judge in ("pickscore", "aesthetic", "heldout")}}


def execute(shell: InteractiveShell, notebook: str, settings: dict) -> None:
    """Run a notebook's code cells; the first error is raised."""
    import anatomy
    shell.reset()
    for cell in anatomy.code_cells(ROOT / "notebooks" / f"{notebook}.ipynb"):
        shell.run_cell(cell).raise_error()
        if cell.startswith("profile: str"):
            shell.user_ns["settings"] = settings


@pytest.mark.parametrize("name", CORPORA)
def test_every_notebook_runs_on_a_corpus_that_the_plan_accepts(tmp_path, models, shell, capsys, name):
    prompts, more = CORPORA[name]
    (tmp_path / "p.txt").write_text("\n".join(prompts), encoding="utf-8")
    rows = [f'[[{category}]]\nphrase = "{word}"\ncount = 1' for category, word in KEYWORDS.items()]
    (tmp_path / "k.toml").write_text("\n".join(rows), encoding="utf-8")
    settings = TOY | models | more | {"data.source": str(tmp_path / "p.txt"),
                                      "neurologic.keywords": str(tmp_path / "k.toml")}
    planned = runner.plan("tiny", settings=settings)
    assert all(len(planned.corpus.prefixes(split)) == 4 for split in ("sft", "ppo", "validation", "test"))
    stages = [stage for stage in STAGES if stage != "glyphworld"]  # 00 reads no corpus
    for stage in stages:
        execute(shell, STAGES[stage].notebook, settings)
    assert all(open_run(stage, "tiny", 0, settings).artifact for stage in stages)
