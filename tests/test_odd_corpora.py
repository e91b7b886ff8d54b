"""Notebooks 01 and 02 on corpora that the plan accepts and that have little in common with DiffusionDB."""
import pytest

from npkit.__main__ import main

SMALL = {"policy.num_layers": 1, "policy.hidden_size": 16, "policy.num_heads": 2, "sft.max_steps": 2,
         "evaluation.max_new_tokens": 4}
ANIMALS = ("Hund", "Kuh", "Eule", "Fuchs", "Biene", "Ente", "Maus", "Esel")
CORPORA = {
    "four": ["Hund", "Kuh", "Eule", "Fuchs"],  # no comma, no keyword, a prompt each for validation and test
    "some": [f"Ba$in {animal} 🔥, ${{x}}^2$ \\frac{{1{more}" for animal in ANIMALS for more in ("", "，Öl")],  # 1 or 2
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_notebooks_01_and_02_run(tmp_path, name, capfd):
    path = tmp_path / f"{name}.txt"
    path.write_text("\n".join(CORPORA[name]), encoding="utf-8")
    settings = [f"--set={setting}={value}" for setting, value in (SMALL | {"data.source": path}).items()]
    assert main(["run", "--only", "01_data_and_prefixes,02_sft", *settings]) == 0, capfd.readouterr().err
