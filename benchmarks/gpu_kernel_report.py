"""The tables of kernels measured one by one."""

from __future__ import annotations

from typing import Any

from report import table

CHECKED = ("model", "operator", "shapes", "nodes", "difference", "allowed", "right")
TIMED = (
    "model", "operator", "shapes", "nodes", "positions", "device us", "host us", "launches", "GB/s", "GMAC/s",
    "of peak", "where",
)  # fmt: skip
CONVOLUTIONS = (
    "model", "operator", "shapes", "nodes", "fused us", "Window us", "cuDNN on windows us", "window form", "faster",
    "cuDNN on frames us", "fused against frames",
)  # fmt: skip


def kernel_sections(rows: list[dict[str, Any]], facts: dict[str, Any], simulated: bool = False) -> list[str]:
    """Lines of Markdown; none where no kernel was run. facts: `peak` and `without_torch` of gpu_kernels.job."""
    if not rows:
        return []
    right = sum(_right(row) for row in rows)
    lines = ["", f"## Kernels{' in the simulator' if simulated else ''}, each against its CPU twin", "",
             f"{right} of {len(rows)} kinds of nodes are right.", ""]  # fmt: skip
    lines += table(CHECKED, [_checked(row) for row in rows if simulated or not _right(row)] or [[""] * len(CHECKED)])
    timed = [row for row in rows if "ours" in row]
    peak = facts.get("peak", {})
    if timed:
        lines += ["", "## Kernels, one batch each", ""]
        if peak:
            lines += [f"One large product: {peak['float32']:.0f} billion multiply-adds a second in float32, "
                      f"{peak['tf32']:.0f} with TF32.", ""]  # fmt: skip
        lines += table(TIMED, [_timed(row, peak.get("float32", 0.0)) for row in timed])
    compared = [row for row in timed if "cudnn_windows" in row]
    if compared:
        lines += ["", "## Convolutions: fused, and Window with cuDNN's; microseconds a batch", "",
                  "*window form* is the sum of Window and cuDNN on its windows; transposes, activation and residual "
                  "come on top. *Frames* is the work of full inference for as many positions.", "",
                  *table(CONVOLUTIONS, [_convolution(row) for row in compared]), "", *_totals(compared)]  # fmt: skip
    if "without_torch" in facts:
        lines += ["", f"Not compared with cuDNN: PyTorch cannot be used here ({facts['without_torch']})."]
    return lines


def _right(row: dict[str, Any]) -> bool:
    return "failed" not in row and row["difference"] <= row["allowed"]


def _names(row: dict[str, Any]) -> list[str]:
    return [row["model"], row["op_type"], row["shapes"], str(row["count"])]


def _checked(row: dict[str, Any]) -> list[str]:
    if "difference" not in row:
        return [*_names(row), "", "", f"**NO**: {row['failed']}"]
    word = "yes" if _right(row) else f"**NO**{': ' + row['failed'] if 'failed' in row else ''}"
    return [*_names(row), f"{row['difference']:.1e}", f"{row['allowed']:.1e}", word]


def _timed(row: dict[str, Any], peak: float) -> list[str]:
    ours = row["ours"]
    whole = sum(ours["parts"].values())
    rate = row["multiply_adds"] / ours["device"] / 1e3 if "multiply_adds" in row else None
    parts = (f"{name} {100 * us / whole:.0f} %" for name, us in sorted(ours["parts"].items(), key=lambda one: -one[1]))
    return [
        *_names(row), str(row["positions"]), f"{ours['device']:.1f}", f"{ours['host']:.1f}", str(ours["launches"]),
        f"{ours['bytes'] / ours['device'] / 1e3:.0f}", "" if rate is None else f"{rate:.0f}",
        "" if rate is None or not peak else f"{100 * rate / peak:.0f} %", ", ".join(parts) if whole else "",
    ]  # fmt: skip


def _window_form(row: dict[str, Any]) -> float:
    return float(row["cudnn_windows"] + row.get("window_kernel", 0.0))


def _convolution(row: dict[str, Any]) -> list[str]:
    fused, form = row["ours"]["device"], _window_form(row)
    frames = row.get("cudnn_frames")
    return [
        *_names(row), f"{fused:.1f}", f"{row['window_kernel']:.1f}" if "window_kernel" in row else "",
        f"{row['cudnn_windows']:.1f}", f"{form:.1f}",
        f"{'fused' if fused <= form else 'window'} ({max(fused, form) / min(fused, form):.2f})",
        "" if frames is None else f"{frames:.1f}", "" if frames is None else f"{frames / fused:.2f}",
    ]  # fmt: skip


def _totals(rows: list[dict[str, Any]]) -> list[str]:
    """Every model's convolutions together, each as often as the model has it."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        fused = sum(row["count"] * row["ours"]["device"] / row["positions"] for row in own)
        window = sum(row["count"] * _window_form(row) / row["positions"] for row in own)
        best = sum(row["count"] * min(row["ours"]["device"], _window_form(row)) / row["positions"] for row in own)
        times = f"{fused:.2f} us a position fused, {window:.2f} in the window form"
        lines.append(f"- {model}: {times}, {best:.2f} with the faster of both each")
    return lines
