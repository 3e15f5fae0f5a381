"""A trained generator for other programs:  python -m minigan.export RUN --onnx cats.onnx --torch cats.safetensors

    --onnx     the generator for whatever runs ONNX (see minigan.onnx_graph)
    --torch    both networks for the DCGAN example of PyTorch (see minigan.torch_names), and back with minigan.import

The ONNX file has been tried: ONNX Runtime draws a few pictures with it, and they are ours. The PyTorch example has one
size of picture and one slope; where a run has others, it is said what to change there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy

import kernels
from minigan import latent, models
from minigan.autograd import Tensor, no_grad
from minigan.command import run_command
from minigan.errors import UserError
from minigan.files import replacing, writing
from minigan.options import Parser, whole
from minigan.run import Run
from minigan.torch_names import to_torch
from minigan.train import Game

TRIED = 16  # pictures
TOLERANCE = 1e-4  # of values in [-1, 1]: an eightieth of a step from one of 256 greys to the next
TORCH_SIZE, TORCH_SLOPE = 64, 0.2  # which the PyTorch example's networks are written for
TRACKED = {"generator": 1, "discriminator": 3}  # batches that a network's batch norms see in a step of the game


def export_onnx(game: Game, path: Path) -> None:
    """Write the generator as ONNX, and say how far ONNX Runtime's pictures are from ours.

    Raises UserError, and leaves no file, if that is more than TOLERANCE, if a package is missing, or the disk refuses.
    """
    try:
        import onnxruntime

        from minigan.onnx_graph import INPUT, OUTPUT, onnx_model
    except ImportError as error:
        raise UserError(f"--onnx: needs ONNX and its runtime ({error}): pip install 'minigan[export]'") from None
    settings, preset = game.settings, game.preset
    z = latent.of_seed(preset, settings.z_dim, seed=0, count=TRIED)
    about = {
        "z": {"normal": "normal(0, 1)", "uniform": "uniform(-1, 1)"}[preset.z],
        "pictures": f"{settings.mode}, from -1 to 1",
        "preset": preset.name,
        "step": str(game.step_count),
    }
    content = onnx_model(game.generator, settings.z_dim, about).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (pictures,) = session.run([OUTPUT], {INPUT: z})
    apart = float(np.abs(pictures - drawn(game, z)).max())
    if not apart <= TOLERANCE:  # NaN is not
        raise UserError(
            f"--onnx {path}: ONNX Runtime draws pictures that are up to {apart:.1e} from ours, which is more than "
            f"{TOLERANCE:.0e}: nothing was written"
        )
    with writing(path), replacing(path) as file:
        file.write(content)
    shape = ", ".join(map(str, pictures.shape[1:]))
    print(f"onnx      {path}: {INPUT} (N, {settings.z_dim}), {about['z']}, to {OUTPUT} (N, {shape})")
    print(f"          by ONNX Runtime, {TRIED} pictures are at most {apart:.1e} from ours, of values from -1 to 1")


def drawn(game: Game, z: np.ndarray) -> np.ndarray:
    """Pictures (N,C,H,W) of z (N, z_dim), in inference."""
    game.generator.train(False)
    with no_grad():
        images = game.generator(Tensor(game.device.array(z), game.device)).numpy()
    return images.transpose(0, 3, 1, 2)


def export_torch(game: Game, path: Path) -> None:
    """Write both networks for PyTorch: the generator to `path`, the discriminator beside it."""
    beside = path.with_stem(f"{path.stem}-discriminator")
    for name, place in {"generator": path, "discriminator": beside}.items():
        arrays = to_torch(getattr(game, name), TRACKED[name] * game.step_count)
        with writing(place), replacing(place) as file:
            file.write(safetensors.numpy.save(arrays))
        print(f"torch     {place}: the {name}'s state_dict")
    size, slope = game.settings.size, game.settings.slope
    if size != TORCH_SIZE:
        count = sum(t.ndim == 4 for t in game.generator.parameters().values())
        example = f"{TORCH_SIZE}x{TORCH_SIZE}"
        print(f"          the example is of {example}: for {size}x{size} give each network {count} convolutions")
    if slope != TORCH_SLOPE:
        print(f"          the example's discriminator has slope {TORCH_SLOPE}: give its LeakyReLU {slope:g}")


def export(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(prog="python -m minigan.export", description="Give a trained generator to other programs.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the folder of a run of minigan.train")
    add("--onnx", type=Path, metavar="FILE", help="the generator, as .onnx")
    add("--torch", type=Path, metavar="FILE", help="as .safetensors, for the DCGAN example of PyTorch")
    add("--checkpoint", type=whole(0), metavar="STEP", help="one of RUN/checkpoints, by its step (default: the newest)")
    given = parser.parse_args(arguments)
    wanted = {
        option: (path, suffix, write)
        for option, path, suffix, write in (
            ("--onnx", given.onnx, ".onnx", export_onnx),
            ("--torch", given.torch, ".safetensors", export_torch),
        )
        if path is not None
    }
    if not wanted:
        raise UserError("nothing to export: give --onnx FILE or --torch FILE")
    for option, (path, suffix, _) in wanted.items():
        if path.suffix != suffix:
            why = ", and never as a pickle, which can run any program when it is opened" if option == "--torch" else ""
            raise UserError(f"{option} {path}: is written as {suffix}{why}: give a name that ends so")

    run = Run.open(given.run)
    preset = models.PRESETS[run.settings.preset]
    if given.torch and preset.architecture is not models.radford:
        raise UserError(f"--torch: the PyTorch DCGAN has no network like preset {preset.name}: use --onnx")
    game = Game(run.settings, kernels.device("cpu"))
    game.load(run.newest_checkpoint() if given.checkpoint is None else run.checkpoint_at(given.checkpoint))
    for path, _, write in wanted.values():
        write(game, path)


if __name__ == "__main__":
    run_command(export)
