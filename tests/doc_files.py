"""What the pages' examples read: two small models, pictures, arrays and scans. Nothing trained, everything seeded."""

from pathlib import Path

import numpy as np
import onnx
from graph_builder import Graph
from PIL import Image

import krypton_onnx as kx

SIZE = 64
LABELS = ("tabby cat", "Egyptian cat", "beagle", "basset", "espresso", "teapot", "violin", "canoe", "daisy", "acorn")
FINDINGS = ("atelectasis", "cardiomegaly", "effusion", "nodule", "pneumothorax")


def write(folder: Path) -> None:
    """Write all of them into a folder."""
    onnx.save(classifier(), folder / "model.onnx")
    onnx.save(chest_classifier(), folder / "chest.onnx")
    kx.convert(folder / "model.onnx", folder / "rewritten.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    (folder / "findings.txt").write_text("\n".join(FINDINGS) + "\n")
    scene(0).save(folder / "photo.jpg", quality=95)
    scene(1).save(folder / "other.jpg", quality=95)
    for name in ("photos", "scans"):
        (folder / name).mkdir()
    for seed in range(6):
        scene(seed).save(folder / "photos" / f"{seed:03}.jpg", quality=95)
    pixels = np.asarray(scene(0).resize((SIZE, SIZE)), np.float32).transpose(2, 0, 1) / 255
    np.save(folder / "image.npy", (pixels - 0.5) / 0.25)
    write_scan(folder / "scan.dcm", 0)
    for seed in range(3):
        write_scan(folder / "scans" / f"{seed:03}.dcm", seed)


def classifier() -> onnx.ModelProto:
    """image float32 (batch, 3, 64, 64) -> probabilities (batch, 10)."""
    g = Graph(60, opset=17, ir=8)
    x = _body(g, g.input("image", ["batch", 3, SIZE, SIZE]))
    g.node("Softmax", g.gemm(x, 24, len(LABELS), gain=30, name="logits"), axis=1, name="probabilities")
    return g.model({"probabilities": ["batch", len(LABELS)]})


def chest_classifier() -> onnx.ModelProto:
    """radiograph float32 (batch, 1, 64, 64) -> a probability a finding, (batch, 5), by sigmoids."""
    g = Graph(61, opset=17, ir=8)
    x = _body(g, g.input("radiograph", ["batch", 1, SIZE, SIZE], channels=1))
    g.node("Sigmoid", g.gemm(x, 24, len(FINDINGS), gain=20, name="logits"), name="probabilities")
    return g.model({"probabilities": ["batch", len(FINDINGS)]})


def _body(g: Graph, x: str) -> str:
    x = g.pool("MaxPool", g.conv_relu(x, 12, 3, pads=1), 2, 2)
    x = g.pool("MaxPool", g.conv_relu(g.conv_relu(x, 16, 3, pads=1), 16, 3, pads=1), 2, 2)
    return g.node("Flatten", g.node("GlobalAveragePool", g.conv_relu(x, 24, 3, pads=1)), axis=1)


def scene(seed: int, size: tuple[int, int] = (150, 120)) -> Image.Image:
    """A picture of (width, height): blobs of colour on waves, others for every seed."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width] / height
    pixels = np.full((height, width, 3), 120.0)
    for _ in range(6):
        centre, spread = rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)
        blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * spread**2))
        pixels += rng.normal(0, 90, 3) * blob[..., None]
    pixels += 12 * np.sin(rng.uniform(5, 40) * x + rng.uniform(5, 40) * y)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_scan(path: Path, seed: int) -> None:
    """A radiograph of 12 bits, inverted (MONOCHROME1), with the window that its file asks for."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    values = (np.asarray(scene(seed, (144, 128)).convert("L"), np.uint16) * 12 + 300).astype(np.uint16)
    scan = Dataset()
    scan.file_meta = FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan.file_meta.MediaStorageSOPClassUID = scan.SOPClassUID = SecondaryCaptureImageStorage
    instance = generate_uid(entropy_srcs=[f"scan {seed}"])
    scan.file_meta.MediaStorageSOPInstanceUID = scan.SOPInstanceUID = instance
    scan.Modality, scan.PatientID, scan.PatientName = "DX", "0000", "Nobody^None"
    scan.Rows, scan.Columns = values.shape
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME1"
    scan.BitsAllocated, scan.BitsStored, scan.HighBit, scan.PixelRepresentation = 16, 12, 11, 0
    scan.WindowCenter, scan.WindowWidth = 1800, 3000
    scan.PixelData = values.tobytes()
    scan.save_as(path, enforce_file_format=True)
