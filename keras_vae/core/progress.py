"""A progress bar for work that takes long."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from keras_vae.core import checks

# Seconds before a bar appears: short work stays silent.
_PATIENCE = 5.0


def with_progress(
    work: Iterable[Any], total: int | None, verbose: bool, unit: str = "batch"
) -> Iterator[Any]:
    """Yields what `work` yields, under a progress bar once it takes more than some seconds."""
    if not checks.option("verbose", verbose, (False, True)):
        yield from work
        return
    start, number, shown = time.monotonic(), 0, False
    bar = keras.utils.Progbar(total, unit_name=unit)
    try:
        for number, item in enumerate(work, start=1):
            yield item
            shown = shown or (number != total and time.monotonic() - start > _PATIENCE)
            if shown:
                bar.update(number, finalize=False)
    finally:  # the work may be left before its end
        if shown:
            bar.update(number, finalize=True)
