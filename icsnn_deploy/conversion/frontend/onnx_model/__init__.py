"""ONNX models as an input: a file becomes an nn.Module, which is traced as any other.

model.onnx --read--> checked model --module--> OnnxModule --trace--> Graph
"""
