"""The layouts of an exported ONNX file."""
