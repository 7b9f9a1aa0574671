"""The Python code of the documentation runs as it is printed."""

import pathlib
import re

import matplotlib as mpl
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("without_torch", [True, False])
def test_the_page_on_measuring_runs_from_top_to_bottom(without_torch, tmp_path, monkeypatch):
    """With timm; or, without it, with a network of ours in the place of timm's."""
    text = (ROOT / "docs" / "measuring.md").read_text()
    first, *others = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    if without_torch:
        first = first.replace("import timm\n", "import jax\n")
        first = re.sub(
            r"module = timm.*\nnetwork = .*\n",
            'model = rs.create("LeNet", num_classes=10, image_size=32, channels=3)\n'
            "network = model.bind(model.init(jax.random.key(0)))\n",
            first,
        ).replace('"*.act2"', '"conv*"')
    else:
        pytest.importorskip("timm", reason="needs the extra `torch`")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    names = {}
    with mpl.rc_context():
        for block in [first, *others]:
            exec(compile(block, "docs/measuring.md", "exec"), names)
    assert (tmp_path / "depth.png").exists()
    assert (names["dataset"].D > 0).all()
