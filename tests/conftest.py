"""What a test may ask for: a seed, and a device, which this machine may not have."""

from __future__ import annotations

import argparse
import contextlib
import re

import pytest
from threadpoolctl import threadpool_limits

import kernels
from kernels.launch import host
from kernels.launch import nvrtc as compiler


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="seed of every random test (default 0)")
    parser.addoption(
        "--device", action="append", choices=kernels.DEVICES, help="test on this device alone; may be given again"
    )
    parser.addoption(
        "--ptx",
        type=virtual_architecture,
        metavar="ARCHITECTURE",
        help="where a .cu runs on the host, run the PTX that NVIDIA's compiler makes of it for this one: compute_90",
    )
    parser.addoption("--no-pool", action="store_true", help="every array on the GPU an allocation of its own")


def virtual_architecture(name):
    """What --ptx takes."""
    if not re.fullmatch(r"compute_\d+", name):
        raise argparse.ArgumentTypeError(f"{name!r} is not a virtual architecture such as compute_90")
    try:
        compiler.newest()
    except kernels.DeviceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def pytest_configure(config):
    threadpool_limits(1, "blas")  # whose other threads spin while they wait, on the cores of the other tests
    whole_session = contextlib.ExitStack()
    whole_session.enter_context(host.emulation(ptx=config.getoption("--ptx")))
    config.add_cleanup(whole_session.close)
    if config.getoption("--no-pool"):
        import cupy

        cupy.cuda.set_allocator(None)


def pytest_report_header(config):
    lines = []
    for name in kernels.DEVICES:
        try:
            kernels.device(name)
            how = f", as PTX for {config.option.ptx}" if name == "emulated" and config.option.ptx else ""
            lines.append(f"device {name}: tested{how}" if name in devices(config) else f"device {name}: not asked for")
        except kernels.DeviceError as error:
            lines.append(f"device {name}: its tests are skipped: {error}")
    return lines


def pytest_generate_tests(metafunc):
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", devices(metafunc.config), indirect=True)


def devices(config):
    """The devices to test, by name."""
    return config.getoption("--device") or kernels.DEVICES


def device_or_skip(name):
    try:
        return kernels.device(name)
    except kernels.DeviceError as error:
        return pytest.skip(str(error))


@pytest.fixture(scope="session")
def device(request):
    """Each device in turn."""
    return device_or_skip(request.param)


@pytest.fixture(scope="session")
def emulated():
    """The device on which the `.cu` files run without a GPU."""
    return device_or_skip("emulated")


@pytest.fixture(params=["cuda", "emulated"])
def gpu(request):
    """The name of each device that runs the `.cu` files, in turn."""
    if request.param not in devices(request.config):
        pytest.skip(f"device {request.param}: not asked for")
    device_or_skip(request.param)
    return request.param


@pytest.fixture(scope="session")
def seed(request):
    """Of the test's random numbers; a failing test shows it."""
    value = request.config.getoption("--seed")
    print(f"--seed {value}")
    return value


@pytest.fixture(scope="session")
def nvrtc():
    """NVIDIA's compiler, which needs no GPU: the major version of the newest installed."""
    try:
        return compiler.newest()
    except kernels.DeviceError as error:
        return pytest.skip(str(error))
