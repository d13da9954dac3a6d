"""Trials of broken input, in a process of their own: a crash, a hang or too much memory then fails one test, not all.

    python trials.py FOLDER CASE ...      prints a line of JSON a case: {"case": ..., "problem": ...}

Each case is "model:NAME", "mutation:SEED" or "image:NAME". Nothing in here may be optimistic: whatever is not clearly
well is a problem, and a case that is not reported ended the process.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = 6 << 30  # address space; an idle session of ours takes some 2 GB of it
SECONDS = 20  # for one case


class Problem(AssertionError):
    """What went wrong in a trial."""


# -- in the parent -------------------------------------------------------------------------------------------


def problems(cases: Iterable[str], folder: Path) -> list[str]:
    """What went wrong in each case, in words; a process that dies or hangs is replaced by another."""
    waiting, found = list(cases), []
    while waiting:
        done, words = _one_process(waiting, folder)
        found += done
        if words is not None:
            found.append(f"{waiting[len(done)]}: {words}")
            done.append("")
        waiting = waiting[len(done) :]
    return [words for words in found if words]


def _one_process(cases: list[str], folder: Path) -> tuple[list[str], str | None]:
    """Problems of the cases that were tried ("" where there was none), and how the process ended before the last."""
    command = [sys.executable, "-X", "faulthandler", __file__, str(folder), *cases]
    limit = 60 + SECONDS * len(cases)
    errors = folder / "stderr.txt"
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    done = [json.loads(line)["problem"] for line in output.splitlines() if line.startswith("{")]
    if len(done) == len(cases):
        return done, None
    tail = " ".join(errors.read_text(errors="replace")[-1500:].split())
    return done, f"the process ended with {process.returncode}: {tail}"


# -- in the child --------------------------------------------------------------------------------------------


@contextmanager
def _captured(folder: Path) -> Iterator[Callable[[], str]]:
    """What is written to the standard error of the process itself, as ONNX Runtime does."""
    path = folder / "descriptor.txt"
    saved = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: path.read_text(errors="replace")
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def command_line(folder: Path, *arguments: object, output: Path | None = None, codes: tuple[int, ...] = (0, 1, 2)):
    """Run a command, which must end well or with one line on stderr and nothing written. Returns the result."""
    from typer.testing import CliRunner

    from krypton_onnx.cli import app

    before = _files(folder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    where = f"krypton-onnx {arguments[0]}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise Problem(f"{where}: {_short(result.exception)}")
    if result.exit_code not in codes:
        raise Problem(f"{where}: exit code {result.exit_code}: {result.output[-300:]}")
    if result.exit_code == 1 and not re.fullmatch(r"krypton-onnx: error: [^\n\r\u2028\x00]+\n", result.stderr):
        raise Problem(f"{where}: not one clear line on stderr: {result.stderr!r}")
    if "Traceback" in result.output or "please report" in result.output:
        raise Problem(f"{where}: a mistake of ours: {result.output[-400:]}")
    if result.exit_code and result.stdout:
        raise Problem(f"{where}: failed and printed {result.stdout[:200]!r}")
    new = _files(folder) - before
    if new != ({str(output)} if output is not None and result.exit_code == 0 else set()):
        raise Problem(f"{where}: exit code {result.exit_code}, and wrote {sorted(new)}")
    return result


def _short(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "krypton_onnx" in frame.filename]
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} at {' '.join(ours[-4:])}"


def try_model(path: Path, folder: Path, expected: str) -> str:
    """A model by command line and API. expected: "refused", "answered" or "either". Returns which of the two it was."""
    import numpy as np

    import krypton_onnx as kx

    output = folder / "out.onnx"
    converted = command_line(folder, "convert", path, "-o", output, output=output)
    if output.exists():
        output.unlink()
    heat_map = None
    try:
        session = kx.OcclusionSession(path)
        dims = [dim if isinstance(dim, int) else 12 for dim in session.image_dims[1:]]
        if np.prod(dims, dtype=float) > 1e7:
            raise kx.ImageError("no image of this size exists")
        image = np.random.default_rng(0).standard_normal((1, *dims)).astype(np.float32)
        patch = 4 if session.layout == "NCHW" else 1
        heat_map = session.explain(image, patch=patch, stride=6, targets=0)
    except kx.KryptonError as error:
        if len(str(error).splitlines()) != 1:
            raise Problem(f"explain: not one line: {error!r}") from None
        refusal = str(error)
    except Exception as error:
        raise Problem(f"explain: {_short(error)}") from None
    if heat_map is None:
        if expected == "answered":
            raise Problem(f"refused: {refusal}")
        if converted.exit_code == 0 and expected == "refused":
            raise Problem(f"converted, though explain says: {refusal}")
        return "refused"
    if "an error of krypton-onnx" in converted.output:  # where ONNX Runtime cannot run it either, it does not matter
        raise Problem(f"the rewriter fails at a model that runs: {converted.stderr}")
    if expected == "refused":
        raise Problem("explained, though the model is broken")
    if expected == "answered" and converted.exit_code != 0:
        raise Problem(f"not converted: {converted.stderr}")
    _compare(path, session, image, heat_map)
    return "answered"


def _compare(path: Path, session, image, heat_map) -> None:
    """With the oracle."""
    import naive
    import numpy as np
    import onnx
    from tolerances import score_tolerance

    model: object = str(path)
    loaded = onnx.load(path, format="protobuf", load_external_data=False)
    dims = next(value for value in loaded.graph.input if value.name == session.image_input).type.tensor_type.shape.dim
    # What ONNX Runtime refuses of itself: an IR newer than it knows, a batch that is not one image, a size of nothing.
    odd = [dim for dim in dims if dim.HasField("dim_value") and dim.dim_value < 1]
    odd += [dims[0]] if dims[0].dim_value > 1 else []
    if odd or not 1 <= loaded.ir_version <= 13:
        loaded.ir_version = min(max(loaded.ir_version, 8), 13)
        for dim in odd:
            dim.Clear()
        model = loaded
    origins = [(int(top), int(left)) for top in heat_map.tops for left in heat_map.lefts]
    channels = image.shape[1] if session.layout == "NCHW" else image.shape[3]
    patch = np.zeros((channels, *heat_map.patch), np.float32)
    expected, _ = naive.naive_scores(model, image, origins, patch)
    actual = heat_map.scores[0].reshape(-1)
    wanted = expected.reshape(len(origins), -1)[:, 0].astype(np.float32)
    finite = np.isfinite(wanted)  # how infinity and NaN spread inside a network is not promised
    if not np.isfinite(actual[finite]).all():
        raise Problem(f"not finite where the oracle is: {actual} {wanted}")
    allowed = score_tolerance(expected[np.isfinite(expected)], probabilities=False) if finite.any() else 0.0
    difference = float(np.abs(actual - wanted)[finite].max()) if finite.any() else 0.0
    if difference > allowed:
        raise Problem(f"a wrong answer: {actual} where the oracle has {wanted}")


def _try_rewritten(seed: int, folder: Path) -> str:
    """It may be refused or answered, and nobody can say how; it must not end the process, our kernels included."""
    import mutations
    import numpy as np
    import onnx

    import krypton_onnx as kx

    onnx.save(mutations.mutated_rewritten(seed), folder / "model.onnx")
    command_line(folder, "inspect", folder / "model.onnx", "--patch", "4")
    try:
        image = np.random.default_rng(0).standard_normal((1, 2, 12, 12)).astype(np.float32)
        kx.OcclusionSession(folder / "model.onnx").explain(image, patch=4, stride=4, targets=0)
    except kx.KryptonError:
        return "refused"
    return "answered"


def try_image(path: Path, folder: Path, expected: str) -> str:
    """An image by command line and API. expected: "refused" or "answered"."""
    import broken_images

    model = folder / "model.onnx"
    model.write_bytes(broken_images.for_pictures().SerializeToString())
    # What a picture means is said, or a warning would tell what is assumed; arrays mean what they are.
    arguments = ["explain", model, path, "--json", "--patch", "8", "--stride", "20"]
    arguments += [] if path.suffix.lower() == ".npy" else ["--preset", "unit"]
    result = command_line(folder, *arguments)
    if (result.exit_code == 0) != (expected == "answered"):
        raise Problem(f"exit code {result.exit_code}: {result.output[:300]}")
    if expected == "answered" and result.stderr:
        raise Problem(f"says {result.stderr!r}")
    return expected


def _try_myself(end: str) -> str:
    """What a trial must not let pass."""
    import faulthandler
    import signal

    match end:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            faulthandler.dump_traceback_later(1, exit=True)
            time.sleep(60)
        case "exit":
            os._exit(0)
        case "memory":
            bytearray(MEMORY)
        case "noise":
            os.write(2, b"something on standard error")
    return "refused"


def _run(case: str, folder: Path) -> str:
    kind, _, name = case.partition(":")
    if kind == "self":
        return _try_myself(name)
    if kind == "model":
        import broken_models

        for makers, expected in (
            (broken_models.BROKEN, "refused"), (broken_models.SOUND, "answered"), (broken_models.EITHER, "either"),
        ):  # fmt: skip
            if name in makers:
                return try_model(makers[name](folder), folder, expected)
        raise Problem("no such case")
    if kind == "mutation":
        import mutations

        (folder / "model.onnx").write_bytes(mutations.mutated(int(name)))
        return try_model(folder / "model.onnx", folder, "either")
    if kind == "rewritten":
        return _try_rewritten(int(name), folder)
    import broken_images

    for makers, expected in ((broken_images.BROKEN, "refused"), (broken_images.SOUND, "answered")):
        if name in makers:
            return try_image(makers[name](folder), folder, expected)
    raise Problem("no such case")


def main(folder: Path, cases: list[str]) -> None:
    """Try every case; a line of JSON each."""
    import faulthandler

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")  # the API may warn; the command line is looked at
    for case in cases:
        faulthandler.dump_traceback_later(SECONDS, exit=True)  # also where C code hangs
        began = time.perf_counter()
        problem, outcome = "", ""
        with tempfile.TemporaryDirectory(dir=folder) as name, tempfile.TemporaryDirectory(dir=folder) as said:
            try:
                with _captured(Path(said)) as text:
                    outcome = _run(case, Path(name))
                if text():
                    problem = f"{case}: on standard error: {text()[:300]!r}"
            except Problem as error:
                problem = f"{case}: {error}"
            except Exception as error:
                problem = f"{case}: {_short(error)}"
        seconds = time.perf_counter() - began
        print(json.dumps({"case": case, "problem": problem, "outcome": outcome, "seconds": seconds}), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
