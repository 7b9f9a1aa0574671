"""Tables 1 and 2: filters averaged over channels, in the paper and here, as Markdown.

σ/mean is the deviation of a layer's taps over their mean: 0 for an average over neighbours,
whatever the width of the network, on which the taps themselves depend.

    python -m figures.tables
"""

import numpy as np

from figures import script
from relstab_jax import results

PAPER = {  # after training, layer by layer
    1: [
        [0.2928, 0.2605, 0.2928],
        [0.0039, 0.0035, 0.0039],
        [0.0043, 0.0038, 0.0043],
        [0.0039, 0.0033, 0.0038],
        [0.0038, 0.0032, 0.0038],
        [0.0038, 0.0031, 0.0038],
        [0.0041, 0.0032, 0.0040],
        [0.0036, 0.0024, 0.0035],
        [0.0021, 0.0016, 0.0017],
        [-0.0013, -0.0008, -0.0010],
        [0.0002, 0.0002, 0.0002],
        [0.0009, 0.0008, 0.0009],
    ],
    2: [
        [0.3828, 0.3737],
        [0.0060, 0.0059],
        [0.0064, 0.0065],
        [0.0059, 0.0060],
        [9.9935e-05, 2.1380e-04],
        [-0.0028, -0.0029],
        [-0.0009, -0.0009],
    ],
}


def inhomogeneity(taps: np.ndarray) -> float:
    """Returns the standard deviation of the taps of a filter over the size of their mean."""
    return float(np.std(taps) / abs(np.mean(taps)))


def table(task: int, file: str) -> str:
    """Returns the table of a task, of the results in a file."""
    filters = results.load(script.RESULTS / file).mean_filter.mean("seed")
    of_state = {state: filters.sel(state=state).values for state in ("init", "trained")}
    rows = [
        "| k | ours, init | ours, trained | paper, trained | σ/mean, ours | σ/mean, paper |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for k, paper in enumerate(PAPER[task]):
        init, trained = of_state["init"][k], of_state["trained"][k]
        taps = (", ".join(f"{w:.4f}" for w in values) for values in (init, trained, paper))
        spread = (f"{inhomogeneity(np.array(values)):.2f}" for values in (trained, paper))
        rows.append(f"| {k + 1} | {' | '.join(taps)} | {' | '.join(spread)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    for number in (1, 2):
        print(f"Table {number}\n\n{table(number, f'task{number}.json')}\n")
