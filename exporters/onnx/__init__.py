"""ONNX files: writing, and reading before a runtime runs them."""
