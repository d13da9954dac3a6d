"""Incremental inference on a GPU: the CUDA kernels inside ONNX Runtime's CUDA provider.

- device.py: memory, streams and pointers, as kernels take them; whether there is a GPU that can be used;
- placing.py: index arithmetic is cut out of the graph and runs on the CPU, so that nothing between two operators has to
  come back from the device;
- forms.py: each convolution as one kernel of ours, or as our Window with ONNX Runtime's own Conv beside it;
- sessions.py: the sessions of a rewritten model on the device, and a run of them.
"""
