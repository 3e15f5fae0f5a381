"""What other programs get is what our generator is, and what they have can be had back."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from commands import refused

import kernels
from minigan import export, generate, latent, options, report, runs, train
from minigan.autograd import Tensor, no_grad
from minigan.run import Run
from minigan.train import Game

REFERENCE = kernels.device("reference")  # sums as they are written: no Winograd, whose rounding has another bound
import_command = importlib.import_module("minigan.import").command  # `import` is Python's own word

RADFORD64_GENERATOR = {
    "main.0.weight": (100, 512, 4, 4),
    **{f"main.1.{name}": (512,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.1.num_batches_tracked": (),
    "main.3.weight": (512, 256, 4, 4),
    **{f"main.4.{name}": (256,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.4.num_batches_tracked": (),
    "main.6.weight": (256, 128, 4, 4),
    **{f"main.7.{name}": (128,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.7.num_batches_tracked": (),
    "main.9.weight": (128, 64, 4, 4),
    **{f"main.10.{name}": (64,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.10.num_batches_tracked": (),
    "main.12.weight": (64, 3, 4, 4),
}
DISCRIMINATOR64 = {
    "main.0.weight": (64, 3, 4, 4),
    "main.2.weight": (128, 64, 4, 4),
    **{f"main.3.{name}": (128,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.3.num_batches_tracked": (),
    "main.5.weight": (256, 128, 4, 4),
    **{f"main.6.{name}": (256,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.6.num_batches_tracked": (),
    "main.8.weight": (512, 256, 4, 4),
    **{f"main.9.{name}": (512,) for name in ("weight", "bias", "running_mean", "running_var")},
    "main.9.num_batches_tracked": (),
    "main.11.weight": (1, 512, 4, 4),
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder to run commands in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_run(seed: int, *arguments: str, out: str = "run") -> Run:
    """A run whose numbers are random, those of batch norm too, as if it had trained for seven steps."""
    settings = options.new_settings(options.parse(["--seed", str(seed), *arguments]))
    game = Game(settings, REFERENCE)
    game.step_count = 7
    random = np.random.default_rng(seed)
    for network in (game.generator, game.discriminator):
        for name, t in network.state().items():
            if name.endswith(("scale", "running_variance")):
                t.data[...] = random.uniform(0.5, 2, t.shape)
            elif not name.endswith("w"):
                t.data[...] = random.normal(0, 0.3, t.shape)
            else:
                t.data[...] = random.normal(0, 1 / np.sqrt(t.size / t.shape[0]), t.shape)
    run = Run.create(Path(out), settings, {"device": "reference", "pictures": 64}, [])
    game.save(run, 1.0)
    return run


# ---- ONNX --------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--preset", "tiny32", "--size", "16"),
        ("--preset", "radford64", "--mode", "L", "--size", "16", "--z-dim", "5"),
        ("--preset", "article128", "--size", "16", "--z-dim", "10", "--slope", "0.3"),
    ],
)
def test_onnx_draws_our_pictures(capsys, seed, arguments):
    """Both architectures, by ONNX Runtime, within the 1e-4 that the command promises; one picture, or many."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    run = a_run(seed, *arguments)
    export.export(["run", "--onnx", "cats.onnx"])
    said = capsys.readouterr().out
    z_dim, channels = run.settings.z_dim, 1 if run.settings.mode == "L" else 3
    assert f"cats.onnx: z (N, {z_dim}), " in said
    assert f", to pictures (N, {channels}, 16, 16)\n" in said

    session = onnxruntime.InferenceSession("cats.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        z = np.random.default_rng(seed).standard_normal((count, z_dim), np.float32)
        (pictures,) = session.run(["pictures"], {"z": z})
        game = Game(run.settings, REFERENCE)
        game.load(run.newest_checkpoint())
        ours = export.drawn(game, z)
        assert pictures.shape == ours.shape == (count, channels, 16, 16)
        assert np.abs(ours).max() > 0.1  # there is something to compare
        assert np.abs(pictures - ours).max() <= 1e-4
    about = session.get_modelmeta().custom_metadata_map
    assert (about["preset"], about["step"]) == (run.settings.preset, "7")


def test_onnx_that_draws_other_pictures_is_not_written(capsys, monkeypatch, seed):
    """What is promised is checked: pictures that are too far from ours leave no file, and an earlier one stays."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    a_run(seed, "--preset", "tiny32", "--size", "16")
    drawn = export.drawn
    monkeypatch.setattr(export, "drawn", lambda game, z: drawn(game, z) + np.float32(2e-4))
    line = refused(capsys, export.export, "run", "--onnx", "cats.onnx")
    assert "--onnx cats.onnx: ONNX Runtime draws pictures that are up to 2.0e-04 from ours" in line
    monkeypatch.setattr(export, "drawn", lambda game, z: drawn(game, z) * np.nan)
    Path("cats.onnx").write_text("an earlier one")
    assert "nan from ours" in refused(capsys, export.export, "run", "--onnx", "cats.onnx")
    assert Path("cats.onnx").read_text() == "an earlier one"
    assert sorted(path.name for path in Path().iterdir()) == ["cats.onnx", "run"]


# ---- PyTorch's names ---------------------------------------------------------


def shapes(path: str) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in safetensors.numpy.load_file(path).items()}


def test_the_names_are_those_of_the_pytorch_example(seed):
    """Every name and shape of its netG.state_dict() and netD.state_dict(), and no other; a filter's row stays a row."""
    run = a_run(seed, "--preset", "radford64")
    export.export(["run", "--torch", "cats.safetensors"])
    assert shapes("cats.safetensors") == RADFORD64_GENERATOR
    assert shapes("cats-discriminator.safetensors") == DISCRIMINATOR64
    arrays, theirs = run.newest_checkpoint().arrays, safetensors.numpy.load_file("cats.safetensors")
    k, r, s, c = 5, 1, 2, 7
    assert theirs["main.3.weight"][k, c, r, s] == arrays["generator.4.w"][k, r, s, c]
    assert theirs["main.4.running_var"][c] == arrays["generator.5.running_variance"][c]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_what_was_exported_comes_back_to_the_bit(capsys, seed, mode):
    """Every number of both networks; and the pictures of a z are the same."""
    run = a_run(seed, "--preset", "tiny32", "--z-dim", "7", "--mode", mode)
    export.export(["run", "--torch", "cats.safetensors"])
    discriminator = ["--discriminator", "cats-discriminator.safetensors"]
    import_command(["cats.safetensors", *discriminator, "--out", "back"])
    back = Run.open(Path("back"))
    one, other = run.newest_checkpoint().arrays, back.newest_checkpoint().arrays
    networks = [name for name in one if name.startswith(("generator.", "discriminator."))]
    assert len(networks) > 20
    assert all(one[name].tobytes() == other[name].tobytes() for name in networks)
    z = latent.of_seed(Game(run.settings, REFERENCE).preset, 7, seed, 4)
    assert (generate.draw(run, z, "cpu") == generate.draw(back, z, "cpu")).all()
    assert runs.summary(Path("back")).state == "imported"
    assert "back: was imported, and has not trained yet: nothing to report" in refused(capsys, report.report, "back")


def test_the_commands_that_an_import_prints_can_be_typed(seed, capsys):
    """Of a run whose name begins with a dash, too."""
    a_run(seed, "--preset", "tiny32", "--size", "16")
    export.export(["run", "--torch", "cats.safetensors"])
    import_command(["cats.safetensors", "--out=-back"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("generate  python -m minigan.generate ./-back --count")
    assert lines[-1].startswith("resume    python -m minigan.train --resume ./-back --data")


def test_an_imported_run_trains_on(seed, capsys, monkeypatch):
    """From step 0, with fresh optimizers and discriminator, on pictures that it then keeps to."""
    run = a_run(seed, "--preset", "tiny32", "--size", "16")
    export.export(["run", "--torch", "cats.safetensors"])
    import_command(["cats.safetensors", "--out", "back"])
    assert "resume    python -m minigan.train --resume back --data cats/" in capsys.readouterr().out
    arrays = Run.open(Path("back")).newest_checkpoint().arrays
    fresh = Game(Run.open(Path("back")).settings, REFERENCE).arrays()
    for name in arrays:
        expected = run.newest_checkpoint().arrays if name.startswith("generator.") else fresh
        assert arrays[name].tobytes() == expected[name].tobytes()

    monkeypatch.setattr(train, "FACES", 64)
    train.train(["--resume", "back", "--minutes", "1e-4", "--device", "cpu"])
    back = Run.open(Path("back"))
    assert (back.newest_checkpoint().state["step"], back.about["pictures"]) == (1, 64)
    monkeypatch.setattr(train, "FACES", 65)
    assert "65 drawn cat faces" in refused(capsys, train.train, "--resume", "back")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size", "64"), []),
        (("--size", "16"), ["the example is of 64x64: for 16x16 give each network 3 convolutions"]),
        (("--size", "64", "--slope", "0.5"), ["the example's discriminator has slope 0.2: give its LeakyReLU 0.5"]),
    ],
)
def test_where_the_example_differs_is_said(capsys, seed, arguments, said):
    """Its 64x64 pictures and its slope are fixed: what else a run has would not load there, or compute otherwise."""
    a_run(seed, "--preset", "tiny32", *arguments)
    export.export(["run", "--torch", "cats.safetensors"])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[2:]] == said


# ---- PyTorch itself ----------------------------------------------------------


def torch_generator(torch, nz: int, ngf: int, nc: int):
    """The generator of the PyTorch example, written down from its description; of 64x64 pixels."""

    def block(k, c, stride, padding):
        return [
            torch.nn.ConvTranspose2d(k, c, 4, stride, padding, bias=False),
            torch.nn.BatchNorm2d(c),
            torch.nn.ReLU(True),
        ]

    class Generator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.main = torch.nn.Sequential(
                *block(nz, ngf * 8, 1, 0),
                *block(ngf * 8, ngf * 4, 2, 1),
                *block(ngf * 4, ngf * 2, 2, 1),
                *block(ngf * 2, ngf, 2, 1),
                torch.nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False),
                torch.nn.Tanh(),
            )

    return Generator().eval()


def torch_discriminator(torch, ndf: int, nc: int):
    """The discriminator of the PyTorch example without its last layer, a sigmoid: ours gives logits too."""

    def block(c, k):
        return [torch.nn.Conv2d(c, k, 4, 2, 1, bias=False), torch.nn.BatchNorm2d(k), torch.nn.LeakyReLU(0.2, True)]

    class Discriminator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.main = torch.nn.Sequential(
                torch.nn.Conv2d(nc, ndf, 4, 2, 1, bias=False),
                torch.nn.LeakyReLU(0.2, True),
                *block(ndf, ndf * 2),
                *block(ndf * 2, ndf * 4),
                *block(ndf * 4, ndf * 8),
                torch.nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False),
            )

    return Discriminator().eval()


def with_bound(torch, network, x):
    """What a PyTorch network gives of x, and how far another's sums in float64 may be from it, element by element.

    With the error e of its input, and u = eps / 2, a layer's two results, theirs and ours, are apart by at most
        convolution   |w| * e + 2 n u (|w| * (|x| + e))    n: the products of a sum, and their additions
        batch norm    |scale| / sigma (e + 16 u (|x| + e + |mean|)) + 4 u |shift|    a handful of roundings each
        ReLU          e + 2 u |x|    its slope is at most 1; a leaky one multiplies
        tanh          e + 16 u       its slope is at most 1, its values too, and a library's is good to a few u
    """
    u, x = np.finfo(np.float64).eps / 2, torch.from_numpy(x)
    e = torch.zeros_like(x)
    for layer in network.double().main:
        y = layer(x.clone())  # a ReLU works in place
        match type(layer).__name__:
            case "Conv2d" | "ConvTranspose2d":
                w = layer.weight.data
                layer.weight.data = w.abs()
                e = layer(e) + 2 * w.numel() / layer.out_channels * u * layer(x.abs() + e)
                layer.weight.data = w
            case "BatchNorm2d":
                numbers = (layer.weight / torch.sqrt(layer.running_var + layer.eps), layer.running_mean, layer.bias)
                slope, mean, shift = (t.abs()[:, None, None] for t in numbers)
                e = slope * (e + 16 * u * (x.abs() + e + mean)) + 4 * u * shift
            case "ReLU" | "LeakyReLU":
                e = e + 2 * u * x.abs()
            case "Tanh":
                e = e + 16 * u
        x = y
    return x.detach().numpy(), e.detach().numpy()


def in_float64(run: Run) -> Game:
    """The run's networks, which then compute in float64, by NumPy."""
    game = Game(run.settings, REFERENCE)
    game.load(run.newest_checkpoint())
    for network in (game.generator, game.discriminator):
        network.train(False)
        for t in network.state().values():
            t.data = t.data.astype(np.float64)
    return game


def assert_same_pictures(torch, generator, game: Game, seed: int) -> np.ndarray:
    """Both draw the same of a few z, within the bound; which is far below what a picture shows. Returns them."""
    z = np.random.default_rng(seed).standard_normal((2, game.settings.z_dim))
    theirs, bound = with_bound(torch, generator, z[:, :, None, None])
    ours = export.drawn(game, z)
    assert np.abs(ours).max() > 0.1
    assert bound.max() < 1e-4
    assert (np.abs(theirs - ours) <= bound).all()
    return ours


def test_pytorch_loads_what_was_exported_and_draws_our_pictures(seed):
    """The files load strictly into the example's own modules, and both networks then compute what ours do."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    run = a_run(seed, "--preset", "tiny32", "--size", "64", "--z-dim", "12")
    export.export(["run", "--torch", "cats.safetensors"])
    generator, discriminator = torch_generator(torch, 12, 32, 3), torch_discriminator(torch, 32, 3)
    generator.load_state_dict(load_file("cats.safetensors"), strict=True)
    discriminator.load_state_dict(load_file("cats-discriminator.safetensors"), strict=True)
    assert generator.main[1].num_batches_tracked == 7
    assert discriminator.main[3].num_batches_tracked == 21

    game = in_float64(run)
    pictures = assert_same_pictures(torch, generator, game, seed)
    with no_grad():
        logits = game.discriminator(Tensor(np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), REFERENCE)).numpy()
    theirs, bound = with_bound(torch, discriminator, pictures)
    assert bound.max() < 1e-4
    assert (np.abs(theirs[:, :, 0, 0] - logits) <= bound[:, :, 0, 0]).all()


def test_what_pytorch_has_can_be_imported(seed):
    """The example's own random weights, saved as it is: our pictures are its pictures."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    generator = torch_generator(torch, 12, 32, 1)
    for name, t in generator.state_dict().items():
        if name.endswith("running_var"):
            t.uniform_(0.5, 2)
        elif name.endswith(("bias", "running_mean")):
            t.normal_(0, 0.3)
    save_file(generator.state_dict(), "theirs.safetensors")
    import_command(["theirs.safetensors", "--out", "run"])
    run = Run.open(Path("run"))
    settings = run.settings
    assert (settings.preset, settings.size, settings.mode, settings.z_dim) == ("tiny32", 64, "L", 12)
    assert_same_pictures(torch, generator, in_float64(run), seed)


# ---- bad input ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run", "nothing to export: give --onnx FILE or --torch FILE"),
        ("run --onnx cats.png", "--onnx cats.png: is written as .onnx: give a name that ends so"),
        (
            "run --torch cats.pth",
            "--torch cats.pth: is written as .safetensors, and never as a pickle, which can run any",
        ),
        ("run --torch no/cats.safetensors", "no/cats.safetensors: cannot be written (No such file or directory)"),
        ("other --torch cats.safetensors", "other: no run's folder"),
        ("run --torch cats.safetensors --checkpoint 3", "run: holds no checkpoint of step 3: give one of 7"),
        (
            "wide --torch cats.safetensors",
            "--torch: the PyTorch DCGAN has no network like preset article128: use --onnx",
        ),
        ("wide --onnx cats.onnx --torch cats.safetensors", "--torch: the PyTorch DCGAN has no network like preset"),
    ],
)
def test_exports_that_cannot_be(capsys, seed, arguments, said):
    """One line, and no file."""
    a_run(seed, "--preset", "tiny32", "--size", "16")
    a_run(seed, "--preset", "article128", "--size", "16", out="wide")
    assert said in refused(capsys, export.export, *arguments.split())
    assert sorted(path.name for path in Path().iterdir()) == ["run", "wide"]


def test_files_that_cannot_be_imported(capsys, seed):
    """What is wrong is named: a pickle, which is never opened; another network; an array missing, or one too many.

    No folder is left.
    """
    a_run(seed, "--preset", "tiny32", "--size", "16")
    export.export(["run", "--torch", "cats.safetensors"])
    good = safetensors.numpy.load_file("cats.safetensors")

    def refusal(arrays: dict, *more: str) -> str:
        safetensors.numpy.save_file(arrays, "bad.safetensors")
        line = refused(capsys, import_command, "bad.safetensors", "--out", "back", *more)
        assert not Path("back").exists()
        return line

    half = {**good, "main.4.bias": good["main.4.bias"].astype(np.float16)}
    assert "main.4.bias is float16 (32,), and should be float32 (32,): it is another network's" in refusal(half)
    nan = {**good, "main.3.weight": good["main.3.weight"] * np.nan}
    assert "main.3.weight holds numbers that are not finite" in refusal(nan)
    few = {name: array for name, array in good.items() if name != "main.1.running_var"}
    assert "main.1.running_var is missing, and should be float32 (64,)" in refusal(few)
    assert "main.9.w is float32 (3,), and should be missing" in refusal({**good, "main.9.w": np.zeros(3, np.float32)})
    assert "not a generator of PyTorch's DCGAN" in refusal({"weight": np.zeros((3, 3), np.float32)})
    line = refused(capsys, import_command, "cats-discriminator.safetensors", "--out", "back")
    assert "cats-discriminator.safetensors: not a generator of PyTorch's DCGAN" in line
    assert "main.0.weight is float32 (64, 64, 4, 4)" in refusal(good, "--discriminator", "cats.safetensors")

    Path("netG.pth").write_bytes(b"PK\x03\x04 and so on")
    Path("old.pth").write_bytes(b"\x80\x02 and so on")
    for name in ("netG", "old"):
        line = refused(capsys, import_command, f"{name}.pth", "--out", "back")
        assert f"{name}.pth: no safetensors file that can be read (it is a pickle, which can run any program" in line
        assert f"safetensors.torch.save_file(netG.state_dict(), '{name}.safetensors')" in line
    Path("circle").symlink_to("circle")
    for name, reason in {
        "missing.safetensors": "cannot be read (No such file or directory): check the path, and its permissions",
        300 * "x": "cannot be read (File name too long): check the path, and its permissions",
        "circle": "cannot be read (Too many levels of symbolic links): check the path, and its permissions",
        "run": "a folder: give a safetensors file",
    }.items():
        assert f"{name}: {reason}\n" in refused(capsys, import_command, name, "--out", "back")
    assert "run: holds files already" in refused(capsys, import_command, "cats.safetensors", "--out", "run")
    assert not Path("back").exists()
