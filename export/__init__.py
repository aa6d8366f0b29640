"""Run -> artifact: SavedModel, ONNX and lookup tables that provably agree."""
