"""A spec as torch modules, code, ONNX or a picture, and modules as specs."""
