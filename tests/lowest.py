"""Print the lower bounds of setup.cfg as exact pins, a pip constraints file."""

import configparser
import re
from pathlib import Path


def pins(text: str) -> list[str]:
    """Return every `name>=version` of the run-time dependencies as `name==version`."""
    config = configparser.RawConfigParser()
    config.read_string(text)
    lines = config["options"]["install_requires"].split("\n")
    return [re.sub(r"\[.*?\]", "", line).replace(">=", "==") for line in lines if ">=" in line]


if __name__ == "__main__":
    print("\n".join(pins(Path("setup.cfg").read_text(encoding="utf-8"))))
