"""A built wheel is enough: installed where there is no source tree, it has every CUDA source and trains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kernels

ROOT = Path(__file__).parents[1]
TRAIN = [
    "-m",
    "minigan.train",
    "--data",
    "cats",
    "--preset",
    "tiny32",
    "--size",
    "16",
    "--batch-size",
    "4",
    "--epochs",
    "1",
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """A virtual environment with the wheel in it, built from a copy of the tree.

    What minigan depends on comes from the environment of the tests: a .pth file names its folder of packages, but
    does not run that folder's own .pth files, so that an editable install there leads nowhere.
    """
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "minigan", folder / "source/minigan", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "kernels", folder / "source/kernels", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    subprocess.run([*pip, "-w", folder, folder / "source"], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (wheel,) = folder.glob("minigan-*.whl")
    (packages,) = folder.glob("env/lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.rmtree(folder / "source")
    (folder / "cats").mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"cats/{i}.png")
    return folder


def python(clean: Path, *arguments: str, **environment: str) -> str:
    """What the clean environment's Python prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [clean / "env/bin/python", *arguments],
        cwd=clean,
        env={**kept, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_it_is_imported_from_where_it_was_installed(clean):
    """Both packages lie in the clean environment, and nothing of the source tree is on the way to them."""
    said = python(clean, "-c", "import minigan.train, kernels; print(minigan.__file__, kernels.__file__, sep='\\n')")
    for line in said.splitlines():
        assert Path(line).is_relative_to(clean / "env")


def test_every_cuda_source_arrived(clean):
    """Each .cu, .cuh and .h of the tree is in the wheel, and `Source` finds those of every room."""
    (packages,) = clean.glob("env/lib/python*/site-packages")
    texts = {
        path.relative_to(ROOT) for suffix in ("cu", "cuh", "h") for path in (ROOT / "kernels").rglob(f"*.{suffix}")
    }
    assert len([path for path in texts if path.suffix == ".cu"]) >= len(kernels.rooms())
    for path in texts:
        assert (packages / path).read_bytes() == (ROOT / path).read_bytes()


def test_it_trains_a_step(clean):
    """One step on the CPU. Numba is told not to compile: the arithmetic is the same, in a tenth of the time.

    The convolutions are the direct ones, for the fast ones name vector registers, which only compiled code has.
    """
    said = python(clean, *TRAIN, "--device", "cpu", "--conv", "direct", "--out", "run", NUMBA_DISABLE_JIT="1")
    assert "weights   run/checkpoints/00000001.safetensors" in said
    assert "<style>" in (clean / "run/report.html").read_text()
    said = python(clean, "-m", "minigan.generate", "run", "--count", "2", "--device", "cpu", NUMBA_DISABLE_JIT="1")
    assert said == "2 pictures: cats.png\n"


def test_it_trains_a_step_with_the_cuda_sources(clean, emulated):
    """One step of the installed .cu files, a thread at a time."""
    said = python(clean, *TRAIN, "--device", "emulated", "--dry-run")
    assert "on emulated, fp32 (as asked)" in said
    assert "d_loss" in said
