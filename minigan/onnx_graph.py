"""The generator as an ONNX graph, which many other programs can run.

    z (N, z_dim)  ->  pictures (N, C, H, W) in [-1, 1]

N is free. ONNX has pictures as NCHW and the filters of a transposed convolution as (K,C,R,S), in the letters of the
trilinear form (see minigan/ops/conv2d.py); ours are turned around as they go in. Batch norm is in inference form. A
filter of layer 3 called `w` is `3.w` here too, and what layer 3 gives is `3`.

Source: ONNX operator reference, https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from minigan.nn import BatchNorm, Conv2dTranspose, Layer, LeakyRelu, Linear, Reshape, Sequential, Tanh

__all__ = ["INPUT", "OUTPUT", "onnx_model"]

INPUT, OUTPUT = "z", "pictures"
OPSET = 17  # of 2022, which every runtime of today knows
IR_VERSION = 8  # that came with it


def onnx_model(generator: Sequential, z_dim: int, about: dict[str, str]) -> onnx.ModelProto:
    """The graph with its weights. about: what the file says of itself, as key and value.

    Raises
    ------
    onnx.checker.ValidationError: it is no valid graph, which would be a mistake of this module.
    """
    nodes, weights, shape, name = [], [], (z_dim,), INPUT
    for i, layer in enumerate(generator):
        for node in _nodes(layer, shape, name, str(i)):
            nodes.append(node)
            name = node.output[0]
        shape = layer.output_shape(shape)
        weights += [numpy_helper.from_array(array, f"{i}.{key}") for key, array in _weights(layer).items()]
    nodes[-1].output[0] = OUTPUT
    h, w, c = shape
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["N", z_dim])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", c, h, w])],
        weights,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="minigan")
    helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def _nodes(layer: Layer, shape: tuple[int, ...], x: str, i: str) -> Iterator[onnx.NodeProto]:
    """What computes layer number i of x, whose shape, without the batch axis, is ours: (C,) or (H,W,C)."""
    match layer:
        case Linear():
            yield helper.make_node("Gemm", [x, f"{i}.w", f"{i}.b"], [i], transB=1)
        case Reshape():  # to (H,W,C), and from there to ONNX's order
            yield helper.make_node("Reshape", [x, f"{i}.shape"], [f"{i}.nhwc"])
            yield helper.make_node("Transpose", [f"{i}.nhwc"], [i], perm=[0, 3, 1, 2])
        case Conv2dTranspose(b=b):
            inputs = [x, f"{i}.w"] if b is None else [x, f"{i}.w", f"{i}.b"]
            yield helper.make_node("ConvTranspose", inputs, [i], **_geometry(layer, shape))
        case BatchNorm(eps=eps):
            names = [f"{i}.{name}" for name in ("scale", "shift", "running_mean", "running_variance")]
            yield helper.make_node("BatchNormalization", [x, *names], [i], epsilon=eps)
        case LeakyRelu(slope=0.0):
            yield helper.make_node("Relu", [x], [i])
        case LeakyRelu(slope=slope):
            yield helper.make_node("LeakyRelu", [x], [i], alpha=slope)
        case Tanh():
            yield helper.make_node("Tanh", [x], [i])
        case _:
            raise NotImplementedError(type(layer).__name__)


def _geometry(layer: Conv2dTranspose, shape: tuple[int, ...]) -> dict[str, list[int]]:
    """A transposed convolution's attributes.

    i = p stride + r - padding reaches (P - 1) stride + R - 2 padding rows of the larger picture; `output_padding` is
    how many more it has.
    """
    sides, kernel = shape[:2], layer.w.shape[1:3]
    reached = [(p - 1) * layer.stride + r - 2 * layer.padding for p, r in zip(sides, kernel, strict=True)]
    return {
        "strides": [layer.stride] * 2,
        "pads": [layer.padding] * 4,
        "output_padding": [side - rows for side, rows in zip(layer.size, reached, strict=True)],
    }


def _weights(layer: Layer) -> dict[str, np.ndarray]:
    """A layer's arrays as its nodes want them, by the names of `Layer.state`."""
    match layer:
        case Reshape(shape=shape):
            return {"shape": np.array([-1, *shape], np.int64)}
        case Conv2dTranspose():
            arrays = {name: t.numpy() for name, t in layer.state().items()}
            return {**arrays, "w": np.ascontiguousarray(arrays["w"].transpose(0, 3, 1, 2))}  # KRSC -> KCRS
        case _:
            return {name: t.numpy() for name, t in layer.state().items()}
