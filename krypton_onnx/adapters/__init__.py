"""Occlusion by the calls of other libraries, computed by ours: `adapters.captum` and `adapters.monai`.

Each has one class with the name, the arguments and the result of that library's own, but takes an ONNX model where it
takes a network of PyTorch. Neither library nor PyTorch is needed: tensors in, tensors out, and arrays likewise.
"""
