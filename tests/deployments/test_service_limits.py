"""What hostile, slow and too many clients get, and that nobody else notices."""

import io
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image
from service_server import PREPARING, SLOW, events_of, running

pytest_plugins = ("service_fixtures",)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG file that claims this size, grey."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    """A TIFF file that claims this size, deflated, of 40 MB of zeros."""
    data = zlib.compress(bytes(40_000_000), 9)
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1),
               (278, 4, height), (279, 4, len(data))]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, one) for tag, kind, one in entries)
    ifd = struct.pack("<H", len(entries)) + rows
    return b"II*\x00" + struct.pack("<I", 8 + len(data)) + data + ifd + bytes(4)


def webp(width: int, height: int) -> bytes:
    """The head of an extended WebP file that claims this size."""
    body = b"\x00" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    rest = b"WEBPVP8X" + struct.pack("<I", 10) + body
    return b"RIFF" + struct.pack("<I", len(rest)) + rest


def real(form: str = "PNG", size=(10_000, 10_000)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size).save(file, form)
    return file.getvalue()


def well(service, files) -> None:
    """It explains as if nothing had been."""
    answer = service.explain(files / "photo.jpg", stride="24")
    assert answer.status_code == 200 and answer.json()["complete"], answer.text


HOSTILE = {
    "10 000 x 10 000 px": (lambda good: real(), 413),
    "a bomb of a PNG": (lambda good: png(60_000, 60_000, bytes(10_000_000)), 413),
    "as large as a PNG can say": (lambda good: png(2**31 - 1, 2**31 - 1), 413),
    "a bomb of a TIFF": (lambda good: tiff(100_000, 100_000), 413),
    "a bomb of a WebP": (lambda good: webp(16_000, 16_000), 413),
    "fewer pixels than it says": (lambda good: png(5000, 5000, bytes(100)), 422),
    "cut short": (lambda good: good[: len(good) // 2], 422),
    "a head alone": (lambda good: good[:20], 422),
    "a WebP without a body": (lambda good: webp(10, 10), 422),
    "nothing": (lambda good: b"", 400),
    "a page": (lambda good: b"<script>alert(1)</script>", 415),
    "a drawing": (lambda good: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>', 415),
    "PostScript": (lambda good: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
    "an array": (lambda good: b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (99999999999,)}", 415),
    "a pickle": (lambda good: b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.", 415),
    "an archive": (lambda good: b"PK\x03\x04" + bytes(100), 415),
    "DICOM of nothing": (lambda good: bytes(128) + b"DICM" + bytes(100), 422),
    "deflated DICOM": (lambda good: bytes(128) + b"DICM" + b"1.2.840.10008.1.2.1.99" + bytes(100), 422),
    "noise behind a head": (lambda good: good[:2] + b"\xff" + bytes(range(256)) * 50, 422),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads_are_refused(service, files, name):
    make, status = HOSTILE[name]
    worker = service.workers()[0].pid
    answer = service.explain(make((files / "photo.jpg").read_bytes()), stride="24")
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert "\n" not in detail and "/" not in detail.replace("image/", "").replace("multipart/", "")
    well(service, files)
    assert [one.pid for one in service.workers()] == [worker]


def test_several_frames_are_refused(service, files):
    file = io.BytesIO()
    frames = [Image.new("L", (40, 40), shade) for shade in (0, 90)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    answer = service.explain(file.getvalue())
    assert answer.status_code == 422 and "holds 2 images" in answer.text


@pytest.mark.parametrize(
    "options",
    [
        {"fill": "@/etc/passwd"}, {"fill": "/etc/passwd"}, {"fill": "nan"}, {"fill": "1e400"},
        {"fill": ["black"] * 9}, {"patch_shape": "mask.png"}, {"patch_shape": "/etc/passwd"}, {"model": "other.onnx"},
        {"preparation": "x.toml"}, {"labels": "/etc/passwd"}, {"spec": "x"}, {"image_input": "x"},
        {"providers": "CUDAExecutionProvider"}, {"memory_budget": "1"}, {"batch_size": "1"}, {"output": "x"},
        {"patch": "0"}, {"patch": "-4"}, {"patch": "65"}, {"patch": "99999999999999999999"}, {"stride": "0"},
        {"stride": "1,2,3"}, {"top": "0"}, {"top": "999"}, {"top": "2", "target": "1"}, {"target": "no such class"},
        {"target": "10"}, {"target": "-1"}, {"target": ["1"] * 40}, {"mode": "naive"},
        {"min_ssim": "0.9"}, {"min_ssim": "nan", "mode": "approximate"}, {"region": "0,0,0,0"}, {"region": "0,0,4,4"},
        {"seed": "-1"}, {"seed": str(2**70)}, {"score": "margin", "activation": "softmax"}, {"fill_samples": "999"},
        {"deadline": "0"}, {"deadline": "inf"}, {"deadline": "-1"}, {"format": "exe"},
        {"patch": ["4", "5"]}, {"patch": "4", "stride": "1", "fill": "surroundings", "fill_samples": "32"},
        {"fill": "inpaint", "patch": "40"},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(service, files, options):
    answer = service.explain(files / "photo.jpg", **options)
    assert answer.status_code == 422, answer.text
    detail = answer.json()["detail"]
    assert len(detail) < 600 and "\n" not in detail and "root:" not in detail


def test_forms_that_are_none(service, files):
    good = (files / "photo.jpg").read_bytes()
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for content, headers, status in (
        (b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n" + good, form, 400),
        (b"no form at all", form, 400),
        (good, {"Content-Type": "multipart/form-data"}, 400),
        (good, {"Content-Type": "text/plain"}, 415),
        (good, {}, 415),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"Content-Type": "application/json"}, 415),
    ):
        answer = service.client.post("/explain", content=content, headers=headers)
        assert answer.status_code == status, (content[:40], answer.text)
    for files_given in (
        [("image", ("a", good)), ("image", ("b", good))], [("other", ("a", good))],
        [("image", ("a", good)), ("fill", ("passwd", b"black"))],
    ):  # fmt: skip
        assert service.client.post("/explain", files=files_given).status_code in (400, 422)
    many = {f"field{number}": "1" for number in range(100)}
    assert service.client.post("/explain", files={"image": ("a", good)}, data=many).status_code == 400
    long = {"target": "x" * 10_000}
    assert service.client.post("/explain", files={"image": ("a", good)}, data=long).status_code == 400
    well(service, files)


@pytest.mark.parametrize(
    ("filename", "caption"),
    [("../../etc/passwd", "passwd"), ("C:\\secret\\a.jpg", "a.jpg"), ("\u202egnp.exe", "gnp.exe"), ("..", "upload"),
     ("<b>.png", "<b>.png"), ("a" * 500, "a" * 80)],
)  # fmt: skip
def test_a_file_name_is_but_a_caption(service, files, filename, caption):
    answer = service.client.post("/explain", files={"image": (filename, (files / "photo.jpg").read_bytes())},
                                 params={"stride": 24})  # fmt: skip
    assert answer.json()["source"] == caption
    page = service.client.post("/explain", files={"image": (filename, (files / "photo.jpg").read_bytes())},
                               params={"stride": 24, "format": "html"})  # fmt: skip
    assert "<b>" not in page.text.replace('<b class="', "").replace("<b id=", "")


# -- bytes, heads, hosts -----------------------------------------------------------------------------------------------


def connection(service) -> socket.socket:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answered(one: socket.socket) -> bytes:
    found = b""
    try:
        while block := one.recv(65536):
            found += block
    except ConnectionResetError:
        pass
    return found


@pytest.fixture(scope="module")
def small(files):
    """A service that takes little, and waits briefly."""
    with running(files, "model.onnx", *PREPARING, "--max-bytes", "200kB", "--max-pixels", "1000000") as one:
        yield one


def test_a_body_that_is_too_large_is_refused(small, files):
    for content in (bytes(1_000_000), iter([bytes(100_000)] * 10)):  # with its length, and in chunks without
        answer = small.client.post("/explain", content=content, headers={"Content-Type": "image/png"})
        assert answer.status_code == 413 and "200,000 bytes" in answer.json()["detail"]
    lie = connection(small)
    lie.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
    lie.sendall(b"Content-Length: 99999999999\r\n\r\n")
    lie.sendall(bytes(1000))
    assert b" 413 " in answered(lie).partition(b"\r\n")[0]
    assert small.explain(real("PNG", (1001, 1000))).status_code == 413
    well(small, files)


def test_a_head_that_is_too_large_or_none_ends(service, files):
    for head in (
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\x00\x00 nonsense\r\n\r\n",
        b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ):  # fmt: skip
        one = connection(service)
        one.sendall(head)
        one.shutdown(socket.SHUT_WR)
        assert answered(one).partition(b"\r\n")[0].split()[1] in (b"400", b"431")
    well(service, files)


def test_without_a_token_pages_elsewhere_may_not_ask(service, files):
    good = {"image": ("a", (files / "photo.jpg").read_bytes())}
    for headers in (
        {"X-Forwarded-For": "203.0.113.7"}, {"Via": "1.1 proxy"},
        {"Host": "evil.example"}, {"Host": "localhost.evil.example"}, {"Origin": "https://evil.example"},
        {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
         "Origin": "https://evil.example"},
    ):  # fmt: skip
        answer = service.client.post("/explain", files=good, headers=headers)
        assert answer.status_code == 403, headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
    for headers in ({"Origin": service.url}, {"Host": "[::1]:8000"}, {"Host": "LOCALHOST:1"}):
        asked = {**headers, "Host": headers.get("Host", service.url.partition("//")[2]).lower()}
        assert service.client.get("/model", headers=asked).status_code == 200, headers
    preflight = service.client.options("/explain", headers={"Origin": service.url,
                                                            "Access-Control-Request-Method": "POST"})  # fmt: skip
    assert preflight.status_code == 405
    assert "access-control-allow-origin" not in preflight.headers
    answer = service.client.get("/model")
    assert answer.headers["x-content-type-options"] == "nosniff" and "server" not in answer.headers


# -- many at once, and slow ones ---------------------------------------------------------------------------------------


def test_the_deadline_gives_the_map_as_far_as_it_is(service, files):
    began = time.monotonic()
    answer = service.explain(files / "photo.jpg", **SLOW, deadline="0.4")
    assert answer.status_code == 200 and time.monotonic() - began < 5
    have = answer.json()
    assert answer.headers["x-complete"] == "false" and have["complete"] is False
    known = sum(map(sum, have["computed"]))
    assert 0 < known < len(have["tops"]) * len(have["lefts"])
    assert sum(one is not None for row in have["scores"][0] for one in row) == known
    assert "time budget" in have["note"]


@pytest.fixture(scope="module")
def narrow(files):
    """A service of one explanation at a time, where two may wait."""
    with running(files, "model.onnx", *PREPARING, "--queue", "2", "--concurrency", "1", "--deadline", "3s") as one:
        yield one


def test_too_many_get_429_and_nothing_else(narrow, files):
    content = (files / "photo.jpg").read_bytes()
    narrow.explain(content, stride="24")

    def ask(_) -> httpx.Response:
        with httpx.Client(base_url=narrow.url, timeout=60) as client:
            return client.post("/explain", files={"image": ("p", content)}, params={**SLOW, "deadline": "0.7"})

    with ThreadPoolExecutor(10) as clients:
        asking = [clients.submit(ask, number) for number in range(10)]
        time.sleep(0.3)
        assert narrow.client.get("/healthz").status_code == 200
        answers = [one.result() for one in asking]
    statuses = sorted(answer.status_code for answer in answers)
    # Those that waited have too little time left: they get what is there by their deadline, or are told that it passed.
    assert set(statuses) <= {200, 429, 503} and statuses.count(429) == 7 and statuses.count(200) >= 1, statuses
    for answer in answers:
        if answer.status_code != 200:
            assert 1 <= int(answer.headers["retry-after"]) <= 600
    assert all("queue" in answer.text or "wait" in answer.text for answer in answers if answer.status_code == 429)
    well(narrow, files)
    assert narrow.metric('krypton_requests_total{method="POST",path="/explain",status="429"}') == 7


def test_a_client_that_goes_away_costs_no_more(narrow, files):
    content = (files / "photo.jpg").read_bytes()
    for path in ("/explain", "/explain/stream"):
        with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=narrow.url, timeout=0.3) as client:
            answer = client.send(client.build_request(
                "POST", path, files={"image": ("p", content)}, params=SLOW), stream=True)  # fmt: skip
            if path == "/explain/stream":
                next(answer.iter_bytes())
                raise httpx.ReadTimeout("as it would")
        began = time.monotonic()
        while narrow.metric("krypton_in_flight"):
            assert time.monotonic() - began < 2, path
            time.sleep(0.02)


def test_slow_clients_do_not_hinder_others(service, files):
    """One dribbles a head, one a body, one reads no answer: others are answered meanwhile, and they come to an end."""
    content = (files / "photo.jpg").read_bytes()
    head = "POST /explain?stride=2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(content)}"
    slow_head, slow_body, no_reader = (connection(service) for _ in range(3))
    stopped = threading.Event()

    def dribble() -> None:
        rest = iter(head.encode() + b"\r\n\r\n")
        try:
            while not stopped.wait(0.3):
                slow_head.sendall(bytes([next(rest)]))
                slow_body.sendall(b"\xff")
        except OSError:
            return

    slow_body.sendall(head.encode() + b"\r\n\r\n")
    no_reader.sendall(head.encode() + b"\r\n\r\n" + content)
    thread = threading.Thread(target=dribble, daemon=True)
    thread.start()
    began = time.monotonic()
    for _ in range(5):
        well(service, files)
    assert time.monotonic() - began < 8
    # The head had 10 seconds.
    assert b"400" in answered(slow_head)[:20] and time.monotonic() - began < 20
    stopped.set()
    slow_body.close()
    well(service, files)


def test_a_stream_tells_of_what_goes_wrong(service, files):
    with service.client.stream("POST", "/explain/stream", content=(files / "photo.jpg").read_bytes()[:500],
                               headers={"Content-Type": "image/jpeg"}) as answer:  # fmt: skip
        events = events_of(answer)
    assert [name for name, _ in events] == ["error"] and events[0][1]["status"] == 422
