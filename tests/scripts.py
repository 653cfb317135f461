"""Scripts of the repository as modules: examples, figures of the pages, what workers run."""

import importlib.util
import sys
from pathlib import Path


def load_script(path):
    """Return a script as a module, which finds those beside it as it does when it is run."""
    path = Path(path)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module
