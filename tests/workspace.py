"""A copy of the project in a folder of its own, with its own git and DVC: what a stranger's clone is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
KINDS = ("metrics/AIFT", "metrics/drift", "metrics/head_to_head", "REVIEW")
EMPTY = tuple(f"data/{kind}/.gitkeep" for kind in KINDS)
COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "stages", "data/.gitignore", *EMPTY, "pyproject.toml")
ENV = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


class Workspace:
    def __init__(self, path: Path, profile: str = "scripted", **changes):
        self.path = path
        for name in COPIED:
            source, target = ROOT / name, path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        shutil.copy2(ROOT / f"stages/config/profiles/{profile}.yaml", path / "params.yaml")
        self.set(**{"hardware.threads": 1}, **changes)
        (path / ".dvc").mkdir()
        (path / ".dvc/config").write_text(
            "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n"
        )

    @classmethod
    def copy(cls, of: Path, path: Path) -> "Workspace":
        space = cls.__new__(cls)
        space.path = Path(shutil.copytree(of, path, symlinks=True))
        return space

    def set(self, **changes) -> None:
        """Edit params.yaml: dotted keys to values."""
        yaml = YAML()
        yaml.width = 1000
        params = yaml.load(self.path / "params.yaml")
        for key, value in changes.items():
            section = params
            *path, last = key.split(".")
            for part in path:
                section = section[part]
            section[last] = value
        yaml.dump(params, self.path / "params.yaml")

    def run(self, *command: str, timeout: float = 600) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.path,
            env=ENV,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def repro(self, *targets: str) -> list[str]:
        """`dvc repro`; the names of the stages that really ran, in order. Fails the test when DVC fails."""
        done = self.run("dvc", "repro", *targets)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return ran(done.stdout)

    def lock(self) -> str:
        return (self.path / "dvc.lock").read_text()


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage ")]
