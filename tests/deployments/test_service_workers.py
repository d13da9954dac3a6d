"""Workers that are killed, hang or grow; how the service starts, and how it ends."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest
from service_server import PREPARING, SLOW, STARTING, refused, running

import krypton_onnx as kx

pytest_plugins = ("service_fixtures",)
TOKEN = "a-token-of-32-characters-0123456"


def wait_until(true, seconds=STARTING) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_worker_loses_nothing(files):
    """kill -9 in the middle of two explanations and with others waiting: all are answered, by a new worker."""
    content = (files / "photo.jpg").read_bytes()
    with running(files, "model.onnx", *PREPARING) as one, ThreadPoolExecutor(5) as clients:
        [worker] = one.workers()
        slow = [clients.submit(one.explain, content, **SLOW) for _ in range(2)]
        wait_until(lambda: one.metric("krypton_in_flight") == 2)
        quick = [clients.submit(one.explain, content, stride="8", seed=str(seed)) for seed in range(3)]
        wait_until(lambda: one.metric("krypton_queue_length") == 3)
        worker.kill()
        wait_until(lambda: one.client.get("/readyz").status_code == 503)
        assert one.client.get("/healthz").status_code == 200
        answers = [answer.result() for answer in (*slow, *quick)]
        assert [answer.status_code for answer in answers] == [200] * 5
        assert all(answer.json()["complete"] for answer in answers)
        want = kx.OcclusionSession(files / "model.onnx", preparation="imagenet").explain(files / "photo.jpg", stride=8)
        np.testing.assert_allclose(np.array(answers[-1].json()["scores"], np.float32), want.scores, atol=1e-5)
        assert one.metric('krypton_worker_restarts_total{reason="ended"}') == 1
        assert [line for line in one.lines if "a worker ended (signal 9)" in line]
        [new] = one.workers()
        assert new.pid != worker.pid


def test_what_ends_workers_is_begun_twice_and_harms_nobody_else(files):
    content = (files / "photo.jpg").read_bytes()
    with running(files, "model.onnx", *PREPARING) as one, ThreadPoolExecutor(2) as clients:
        bad = clients.submit(one.explain, content, **SLOW)
        wait_until(lambda: one.metric("krypton_in_flight") == 1)
        good = clients.submit(one.explain, content, **{**SLOW, "fill_samples": "6"})
        wait_until(lambda: one.metric("krypton_in_flight") == 2)
        one.workers()[0].kill()
        # Begun anew, one after the other: the first of them ends its worker once more.
        wait_until(lambda: one.metric("krypton_workers_ready") == 1 and one.metric("krypton_in_flight") == 1)
        one.workers()[0].kill()
        assert bad.result().status_code == 503 and "twice" in bad.result().text
        assert int(bad.result().headers["retry-after"]) >= 1
        assert good.result().status_code == 200 and good.result().json()["complete"]


def test_a_worker_that_hangs_is_replaced(files):
    """One that is stopped says nothing more: it is killed, and what it had begun is begun anew."""
    asyncio.run(_hangs(files))


async def _hangs(files) -> None:
    async with in_this_process(files, hang=3.0) as (client, pool):
        [worker] = pool.workers
        os.kill(worker.pid, signal.SIGSTOP)
        answer = await client.post(
            "/explain", content=(files / "photo.jpg").read_bytes(), headers={"Content-Type": "image/jpeg"}
        )
        assert answer.status_code == 200 and answer.json()["complete"]
        text = (await client.get("/metrics")).text
        assert 'krypton_worker_restarts_total{reason="hung"} 1.0' in text


@contextlib.asynccontextmanager
async def in_this_process(files, **limits):
    """(client, pool) of a service without a socket; `limits` in place of the usual ones."""
    from krypton_onnx.cli.preparing import PreparingOptions
    from krypton_onnx.service import Limits, ServiceSettings, WorkerSettings
    from krypton_onnx.service.app import create_app
    from krypton_onnx.service.metrics import Metrics
    from krypton_onnx.service.pool import WorkerPool

    spec = kx.ExplanationSpec(str(files / "model.onnx"))
    worker = WorkerSettings(spec, PreparingOptions.parse(preset="imagenet"))
    settings = ServiceSettings(worker, log="none", limits=Limits(**limits))
    metrics = Metrics()
    pool = WorkerPool(settings, metrics)
    await pool.start()
    try:
        transport = httpx.ASGITransport(create_app(settings, pool, metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=STARTING) as client:
            yield client, pool
    finally:
        await pool.stop()


class FakeWorker:
    """Takes jobs, and never answers."""

    ready, draining = True, False

    def __init__(self) -> None:
        self.jobs: dict = {}

    def begin(self, job, now) -> None:
        job.attempts += 1
        self.jobs[job.id] = job


def test_the_queue_is_bounded_while_a_job_waits_to_be_begun_anew() -> None:
    """It wants a worker for itself; that another one has a place beside its jobs is nothing to those behind it."""
    from krypton_onnx.service import Limits, ServiceSettings
    from krypton_onnx.service.jobs import Job
    from krypton_onnx.service.metrics import Metrics
    from krypton_onnx.service.pool import QueueFull, WorkerPool

    async def fill() -> None:
        settings = ServiceSettings(SimpleNamespace(concurrency=2), workers=2, limits=Limits(queue=2))
        pool, first, second = WorkerPool(settings, Metrics()), FakeWorker(), FakeWorker()
        pool._workers = [first, second]
        until = asyncio.get_running_loop().time() + 60
        for _ in range(3):
            pool.submit(Job({}, b"x", until))
        dead = max(first, second, key=lambda worker: len(worker.jobs))
        pool._workers.remove(dead)
        pool._begin_anew(dead)
        with pytest.raises(QueueFull):
            for _ in range(100):
                pool.submit(Job({}, b"x", until))
        assert pool.waiting == 2

    asyncio.run(fill())


def test_a_worker_that_does_not_answer_in_time_is_504(files):
    async def ask() -> None:
        async with in_this_process(files, deadline=0.5, overrun=0.5, hang=60.0) as (client, pool):
            [worker] = pool.workers
            os.kill(worker.pid, signal.SIGSTOP)
            content = (files / "photo.jpg").read_bytes()
            answer = await client.post("/explain", content=content, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 504
            os.kill(worker.pid, signal.SIGCONT)
            await asyncio.sleep(0.5)
            again = await client.post("/explain?stride=24", content=content, headers={"Content-Type": "image/jpeg"})
            assert again.status_code == 200

    asyncio.run(ask())


def test_of_two_workers_one_goes_on_alone(files):
    content = (files / "photo.jpg").read_bytes()
    with running(files, "model.onnx", *PREPARING, "--workers", "2", "--concurrency", "1", "--threads", "1") as one:
        wait_until(lambda: one.metric("krypton_workers_ready") == 2)
        with ThreadPoolExecutor(2) as clients:
            slow = [clients.submit(one.explain, content, **SLOW) for _ in range(2)]
            wait_until(lambda: one.metric("krypton_in_flight") == 2)  # so each has one
            one.workers()[0].kill()
            wait_until(lambda: one.metric("krypton_workers_ready") == 1)
            assert one.client.get("/readyz").status_code == 200
            assert [answer.result().status_code for answer in slow] == [200, 200]
        wait_until(lambda: one.metric("krypton_workers_ready") == 2)


def test_bodies_that_dribble_are_ended_and_all_together_bounded(files):
    async def dribbled(count: int, seconds: float):
        yield bytes(count)
        await asyncio.sleep(seconds)

    async def ask() -> None:
        png = {"Content-Type": "image/png"}
        async with in_this_process(files, body_seconds=0.5, max_bytes=100_000) as (client, _):
            asked = [client.post("/explain", content=dribbled(90_000, 60), headers=png) for _ in range(10)]
            statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked))
            assert statuses == [408] * 8 + [429] * 2
            # What they had sent is forgotten.
            content = (files / "photo.jpg").read_bytes()
            answer = await client.post("/explain?stride=24", content=content, headers={"Content-Type": "image/jpeg"})
            assert answer.status_code == 200

    asyncio.run(ask())


def test_approximate_maps_of_a_tuned_model(files):
    session = kx.OcclusionSession(files / "model.onnx", preparation="imagenet")
    photos = [files / "photos" / f"{number:03}.jpg" for number in range(3)]
    tuning = kx.tune(session, [session.prepare(photo).array for photo in photos], patch=8, stride=2)
    kx.convert(files / "model.onnx", files / "tuned.onnx", tuning=tuning, preparation="imagenet", check=False)
    with running(files, "tuned.onnx", "--mode", "approximate", "--patch", "8", "--stride", "2") as one:
        have = one.explain(files / "photo.jpg").json()
        tuned = kx.OcclusionSession(files / "tuned.onnx")
        want = tuned.explain(files / "photo.jpg", mode="approximate", patch=8, stride=2)
        assert have["mode"] == "approximate" and have["expected_ssim"] == want.expected_ssim
        np.testing.assert_allclose(np.array(have["scores"], np.float32), want.scores, atol=1e-4)
        assert one.client.get("/model").json()["tuning"]["patch"] == [8, 8]
        # Of another patch nothing was tuned; exact maps are to be had as ever.
        assert one.explain(files / "photo.jpg", patch="12").status_code == 422
        assert one.explain(files / "photo.jpg", patch="12", mode="exact").json()["mode"] == "exact"


def test_memory_stays_flat(files):
    """Over 60 requests of all kinds; of both processes, once the first ones have made what is kept."""
    content = (files / "photo.jpg").read_bytes()
    with running(files, "model.onnx", *PREPARING) as one, ThreadPoolExecutor(4) as clients:

        def ask(number: int) -> int:
            form = ("json", "png", "html", "npz")[number % 4]
            path = "/explain/stream" if number % 5 == 0 else "/explain"
            return one.explain(content[: 400 if number % 7 == 0 else None], path, stride="4", format=form).status_code

        def resident() -> list[int]:
            return [psutil.Process(one.process.pid).memory_info().rss, one.workers()[0].memory_info().rss]

        assert set(clients.map(ask, range(40))) == {200, 422}
        before = resident()
        assert set(clients.map(ask, range(60))) == {200, 422}
        after = resident()
        assert after[0] - before[0] < 15_000_000 and after[1] - before[1] < 40_000_000, (before, after)


def test_a_worker_with_too_much_memory_is_replaced_when_idle(files):
    with running(files, "model.onnx", *PREPARING, "--max-worker-memory", "100MB") as one:
        first = one.workers()[0].pid
        assert one.explain(files / "photo.jpg", stride="24").status_code == 200
        assert one.explain(files / "photo.jpg", stride="24").status_code == 200
        wait_until(lambda: one.metric('krypton_worker_restarts_total{reason="memory"}') >= 1)
        wait_until(lambda: one.client.get("/readyz").status_code == 200)
        assert first not in [worker.pid for worker in one.workers()]
        assert any("was replaced" in line for line in one.lines)


# -- the beginning and the end -----------------------------------------------------------------------------------------


def test_what_is_under_way_is_finished_at_the_end(files):
    with running(files, "model.onnx", *PREPARING) as one, ThreadPoolExecutor(1) as clients:
        answer = clients.submit(one.explain, files / "photo.jpg", **{**SLOW, "fill_samples": "4"})
        wait_until(lambda: one.metric("krypton_in_flight") == 1)
        [worker] = one.workers()
        one.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200 and answer.result().json()["complete"]
        assert one.process.wait(20) == 0
        wait_until(lambda: not worker.is_running(), 10)
        assert one.process.stdout.read() == "stopped\n"


def test_workers_end_with_a_server_that_is_killed(files):
    with running(files, "model.onnx", *PREPARING) as one:
        [worker] = one.workers()
        one.process.kill()
        wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 10)
        one.process.wait()
        one.end = lambda: 0


def test_a_token_is_asked_for(files, tmp_path):
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")
    with running(files, "model.onnx", *PREPARING, "--token-file", str(secret), "--host", "0.0.0.0") as one:
        content = (files / "photo.jpg").read_bytes()
        wrong = ("Bearer wrong", TOKEN, "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é".encode("latin-1"))
        for headers in ({}, *({"Authorization": value} for value in wrong)):
            for path in ("/explain", "/explain/stream"):
                answer = one.client.post(path, content=content, headers={**headers, "Content-Type": "image/jpeg"})
                assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", headers
            assert one.client.get("/model", headers=headers).status_code == 401
            assert one.client.get("/metrics", headers=headers).status_code == 401
        for path in ("/", "/healthz", "/readyz", "/docs", "/openapi.json", "/static/page.js"):
            assert one.client.get(path).status_code == 200
        given = {"Authorization": f"Bearer {TOKEN}", "Host": "explain.example", "Content-Type": "image/jpeg"}
        assert one.client.post("/explain?stride=24", content=content, headers=given).status_code == 200
        worker = one.workers()[0]
        assert TOKEN not in " ".join([*worker.cmdline(), *worker.environ().values(), *one.lines])


def test_a_token_from_the_environment_stays_with_the_server(files):
    with running(files, "model.onnx", *PREPARING, KRYPTON_TOKEN=TOKEN) as one:
        assert one.client.get("/model").status_code == 401
        assert one.client.get("/model", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
        assert "KRYPTON_TOKEN" not in one.workers()[0].environ()


def test_what_cannot_be_served_is_told_in_a_line(files, tmp_path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text("secret")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in (
            (["model.onnx", "--port", port], f"port {port} of 127.0.0.1 is taken"),
            (["model.onnx", "--host", "0.0.0.0"], "give a token"),
            (["model.onnx", "--host", "::"], "give a token"),
            (["model.onnx", "--host", "192.0.2.1", "--token-file", str(files / "labels.txt")], "the token must have"),
            (["model.onnx", "--token-file", str(tmp_path / "short")], "at least 16 characters"),
            (["model.onnx", "--token-file", str(tmp_path / "empty")], "is empty"),
            (["model.onnx", "--token-file", str(tmp_path / "none")], "cannot be read"),
            (["model.onnx", "--host", "no.such.host.invalid"], "can be reached from other machines"),
        ):
            assert words in refused(files, *arguments), arguments
    for arguments, words in (
        (["broken.onnx"], "broken.onnx"), (["none.onnx"], "none.onnx"), (["photo.jpg"], "photo.jpg"),
        (["model.onnx", "--labels", "none.txt"], "none.txt"), (["model.onnx", "--mode", "approximate"], "no tuning"),
    ):  # fmt: skip
        assert words in refused(files, *arguments, "--port", "0"), arguments


def test_usage_is_exit_code_2(files):
    for arguments in (["--deadline", "0s"], ["--max-bytes", "many"], ["--workers", "0"], ["--patch-shape", "mask.png"]):
        done = subprocess.run([sys.executable, "-m", "krypton_onnx", "serve", "model.onnx", *arguments],
                              cwd=files, capture_output=True, text=True, timeout=STARTING)  # fmt: skip
        assert done.returncode == 2, done.stderr


def test_an_upload_is_never_on_a_disk(files):
    """A form larger than what is usually spooled: the parser is told to keep it in memory."""
    from starlette.requests import Request

    from krypton_onnx.service import bodies

    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    image = b"\xff\xd8\xff" + bytes(3_000_000)
    kind = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = Request({"type": "http", "method": "POST", "path": "/explain", "query_string": b"", "headers": kind})
    rolled = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tempfile.SpooledTemporaryFile.rollover", lambda file: rolled.append(file))
        upload = asyncio.run(bodies.upload_of(request, head + image + b"\r\n--x--\r\n"))
    assert upload.image == image and rolled == []
