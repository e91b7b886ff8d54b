"""Panel: how long the constraint explorer takes from a click to the prompt, and whether its kernel answers meanwhile.

    python benchmarks/panel.py [--clicks 20] [--seed 0]

A kernel of its own shows the panel of the trained study (profile tiny, seed 0) without a browser. Each click has
another prompt and another picture seed; a second run finds its scores in the cache, unless it has another --seed. While
the panel works, other cells are sent and timed. The first click, which loads policy and judges, is printed alone.
"""
import argparse
import json
import time

import numpy as np
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

PROMPTS = [f"a {colour} {thing}" for colour in ("red", "blue", "green", "yellow") for thing in (
    "fox", "castle tower", "lighthouse", "cat", "bottle", "house")]

SETUP = """
import json, time
from npkit.study.artifacts import open_run
from npkit.widgets import explore
panel, seen = explore(open_run("explorer", "tiny")), {}
for name in ("prompt", "pictures"):
    panel.parts[name].observe(
        lambda change, name=name: change["new"] and seen.setdefault(name, time.monotonic()), "value")
panel.controls.numbers["num_seeds"].value = 4
"""
CLICK = """
panel.controls.prompt.value, panel.controls.numbers["first_seed"].value = {prompt!r}, {seed}
seen.clear()
start = time.monotonic()
panel.buttons["optimise"].click()
"""
STATE = """
print(json.dumps({"busy": panel.worker.busy, "error": panel.parts["error"].value, "now": time.monotonic() - start}
                 | {name: moment - start for name, moment in seen.items()}))
"""
WANTED = {"click to prompt": 2.0, "click to both pictures": 5.0, "another cell's answer, median": 0.5,
          "another cell's answer, slowest": 0.5}


def state_of(client: BlockingKernelClient) -> tuple[dict, float]:
    """Return what another cell says of the panel, and the seconds until its reply."""
    said, start = [], time.monotonic()
    client.execute_interactive(STATE, timeout=300, store_history=False,
                               output_hook=lambda message: said.append(message["content"].get("text", "")))
    return json.loads("".join(said)), time.monotonic() - start


def click(client: BlockingKernelClient, prompt: str, seed: int) -> tuple[dict, list[float]]:
    """Return the panel's state at the end of the work, and the seconds that each other cell took meanwhile."""
    client.execute_interactive(CLICK.format(prompt=prompt, seed=seed), timeout=300, store_history=False)
    answers = []
    while True:
        state, seconds = state_of(client)
        if not state["busy"]:
            return state, answers
        answers.append(seconds)
        time.sleep(0.05)


def report(states: list[dict], answers: list[float]) -> str:
    """Return the medians as lines, with what is wanted."""
    found = {"click to prompt": np.median([each["prompt"] for each in states]),
             "click to both pictures": np.median([each["pictures"] for each in states]),
             "another cell's answer, median": np.median(answers), "another cell's answer, slowest": max(answers)}
    return "\n".join(f"{name:<32}{value:6.2f} s (wanted: at most {WANTED[name]:g} s)" for name, value in found.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clicks, seed = args.clicks, 1_000_000 * (args.seed + 1)
    prompts = (PROMPTS * (clicks // len(PROMPTS) + 1))[:clicks + 1]
    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=120)
    try:
        client.execute_interactive(SETUP, timeout=300)
        first, _ = click(client, prompts[0], seed)
        print(f"first click, with loading: prompt after {first['prompt']:.2f} s, pictures after "
              f"{first['pictures']:.2f} s", flush=True)
        found = [click(client, prompt, seed + 1000 * number) for number, prompt in enumerate(prompts[1:], 1)]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if failed := [state["error"] for state, _ in found if state["error"]]:
        raise SystemExit(f"{len(failed)} of {clicks} clicks failed: {failed[0]}")
    print(f"{clicks} clicks, medians; {sum(len(times) for _, times in found)} other cells")
    print(report([state for state, _ in found], [seconds for _, times in found for seconds in times]))


if __name__ == "__main__":
    main()
