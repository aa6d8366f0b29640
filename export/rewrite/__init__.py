"""Any Keras 3 model with GRU layers as an ONNX graph with fused GRU operators.

`convert(model)` is the whole of it; `python -m export rewrite-onnx` does the same with files.
What is proven, what is refused and why: `docs/decisions/0022-any-gru-through-a-carrier.md`.
Importing this package imports neither TensorFlow nor ONNX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from export.rewrite.errors import ParityError, RewriteError

if TYPE_CHECKING:
    import onnx

__all__ = ["ParityError", "RewriteError", "convert"]


def convert(model: Any, *, check: bool = True) -> onnx.ModelProto:
    """Convert a Keras 3 model, every GRU in it to a fused ONNX GRU, and compare both.

    Args:
        model: A built Keras model. It is not changed, but must not be called meanwhile.
        check: Run both on random inputs and raise where they differ.

    Returns:
        An ONNX model (opset 18) with the inputs and outputs of the Keras model, under their
        names, and without Loop, Scan or If.

    Raises:
        RewriteError: The model holds something that cannot be said in fused operators; every
            reason is listed.
        ParityError: The graph gives other answers than the model.
    """
    from export.rewrite.conversion import convert_model
    from export.rewrite.parity import check_parity

    proto = convert_model(model)
    if check:
        check_parity(model, proto)
    return proto
