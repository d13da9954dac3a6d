"""The room that runs things: ONNX Runtime sessions, batches, threads, the map."""
