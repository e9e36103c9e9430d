"""Exported ONNX files in ONNX Runtime, OpenVINO and onnx's reference evaluator."""
