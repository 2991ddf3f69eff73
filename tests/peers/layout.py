"""Where things lie in the folder, and how they come to be there only once and only whole."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable


@dataclass(frozen=True)
class Layout:
    root: Path

    def environment(self, adapter: str) -> Path:
        return self.root / "environments" / adapter

    def python(self, adapter: str) -> Path:
        return self.environment(adapter) / "bin" / "python"

    def packages(self, adapter: str) -> Path:
        return next((self.environment(adapter) / "lib").glob("python*/site-packages"))

    def weights(self, dtype: str) -> Path:
        return self.root / "weights" / dtype

    def model(self, adapter: str, dtype: str) -> Path:
        return self.root / "models" / f"{adapter}-{dtype}"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def pairs(self) -> Path:
        return self.root / "pairs.jsonl"

    @property
    def report(self) -> Path:
        return self.root / "report"


def once(target: Path, of: dict, make: Callable[[Path], dict]) -> dict:
    """What `make` said when it filled `target`; it is called where that was never done, or done of something else."""
    marker = target / "made.json"
    if marker.exists():
        made = json.loads(marker.read_text())
        if made["of"] == of:
            return made["said"]
    partial = target.with_name(f"{target.name}.partial")
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    said = make(partial)
    (partial / "made.json").write_text(json.dumps({"of": of, "said": said}))
    partial.rename(target)
    return said
