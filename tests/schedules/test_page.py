"""The figure of the page on schedules shows each, and its schedule of one's own can be saved."""

from __future__ import annotations

import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from tests.scripts import load_script

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_the_figure_shows_every_schedule():
    script = load_script(DOCS / "figures" / "schedules.py")
    drawn = script.PANELS
    kinds = {type(schedule).__name__ for schedule in drawn.values()}
    assert kinds == set(kv.schedules.__all__) - {"Schedule"}
    for title, schedule in drawn.items():
        assert eval(title, vars(kv.schedules)).get_config() == schedule.get_config(), title
    panels = script.draw().get_axes()[: len(drawn)]
    for axes, schedule in zip(panels, drawn.values(), strict=True):
        (line,) = axes.get_lines()
        np.testing.assert_array_equal(line.get_ydata(), schedule(line.get_xdata()))


def test_a_schedule_of_ones_own_can_be_saved():
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(@keras.*?)^```", page, re.DOTALL | re.MULTILINE)
    names = {"kv": kv, "keras": keras, "tf": tf}
    exec(block, names)
    config = keras.saving.serialize_keras_object(names["InverseRoot"](0.5, 100))
    assert float(keras.saving.deserialize_keras_object(config)(300)) == 0.25
