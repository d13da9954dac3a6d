"""The server of `krypton-onnx web --serve`: the files of one folder, by name, with the headers; and nothing else."""

import errno
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from web_cases import PAGE, complaint, krypton, write_page

from krypton_onnx.errors import KryptonError
from krypton_onnx.web import server as serving
from krypton_onnx.web.headers import HEADERS
from krypton_onnx.web.server import SiteServer

FILES = {
    **PAGE, "model/manifest.json": '{"format": 1, "model": "m", "origin_input": "o"}', "model/rewritten.onnx": "model",
    "assets/ort.wasm": "wasm", "assets/ort.mjs": "export {}", "a name.txt": "text", ".htaccess": "hidden",
    ".git/config": "hidden",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "site"
    write_page(folder)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "linked").symlink_to(folder.parent)
    return folder


@pytest.fixture(scope="module")
def server(site):
    with SiteServer(site, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection(*server.server_address, timeout=10)

    def ask(path, method="GET", body=None, **headers):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read()

    yield ask
    connection.close()


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html?x=1", "index.html", "text/html; charset=utf-8"),
        ("/assets/index-1a2b.js", "assets/index-1a2b.js", "text/javascript; charset=utf-8"),
        ("/assets/ort.mjs", "assets/ort.mjs", "text/javascript; charset=utf-8"),
        ("/assets/ort.wasm", "assets/ort.wasm", "application/wasm"),
        ("/model/manifest.json", "model/manifest.json", "application/json"),
        ("/model/rewritten.onnx", "model/rewritten.onnx", "application/octet-stream"),
        ("/a%20name.txt", "a name.txt", "text/plain; charset=utf-8"),
    ],
)
def test_files_come_with_their_type_and_the_headers(ask, path, name, kind):
    answer, body = ask(path)
    assert (answer.status, body.decode()) == (200, FILES[name])
    assert answer.headers["Content-Type"] == kind
    assert HEADERS.items() <= dict(answer.headers).items()
    assert ("immutable" in answer.headers["Cache-Control"]) == path.startswith("/assets/")
    assert answer.headers["Server"] == "krypton-onnx"
    head, nothing = ask(path, "HEAD")
    assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(body)))


def test_what_has_not_changed_is_not_sent_again(ask):
    first, _ = ask("/model/rewritten.onnx")
    again, body = ask("/model/rewritten.onnx", If_None_Match=first.headers["ETag"])
    assert (again.status, body) == (304, b"") and HEADERS.items() <= dict(again.headers).items()
    assert ask("/model/rewritten.onnx", If_None_Match='"other"')[0].status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing", "/assets", "/assets/", "/model", "/../secret.txt", "/assets/../../secret.txt",
        "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/..%5csecret.txt", "/link.txt", "/linked/secret.txt", "/.htaccess",
        "/.git/config", "/index.html%00.png", "/%ff", "/./index.html", "http://127.0.0.1/index.html", "/INDEX.html",
        "/assets/./ort.mjs", "index.html",
    ],
)  # fmt: skip
def test_nothing_else_is_there(ask, path):
    answer, body = ask(path)
    assert answer.status == 404 and b"secret" not in body and b"hidden" not in body
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "<b>"])
def test_nothing_can_be_sent(ask, method):
    answer, body = ask("/", method, b"upload")
    assert answer.status == 501 and b"<b>" not in body


def test_a_body_is_not_taken_for_the_next_request(server):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        inner = b"GET /a%20name.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(inner), inner))
        said = b""
        while block := connection.recv(1 << 16):
            said += block
    assert said.count(b"HTTP/1.1 200") == 1 and b"text" + b"\n" not in said


def test_on_loopback_another_name_for_it_is_refused(ask):
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"):
        answer, body = ask("/", Host=host)
        assert answer.status == 421 and PAGE["index.html"].encode() not in body, host
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "site.localhost"):
        assert ask("/", Host=host)[0].status == 200, host


def test_broken_requests_and_visitors_who_leave_end_nothing(server, ask, capfd):
    for text in (b"\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70000):
        with socket.create_connection(server.server_address, timeout=10) as connection:
            connection.sendall(text)
    for _ in range(5):
        with socket.create_connection(server.server_address) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closed by a reset
            connection.sendall(b"GET /model/rewritten.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.2)
    assert ask("/")[0].status == 200
    assert capfd.readouterr().err == ""


def test_a_connection_too_many_is_closed_and_room_comes_back(site, monkeypatch):
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 2)
    with SiteServer(site, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        held = [http.client.HTTPConnection(*server.server_address, timeout=10) for _ in range(2)]
        for connection in held:
            connection.request("GET", "/")
            assert connection.getresponse().read()
        with socket.create_connection(server.server_address, timeout=10) as third:
            try:
                third.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert third.recv(1) == b""
            except ConnectionError:
                pass
        for connection in held:
            connection.close()
        deadline = time.monotonic() + 10
        while True:
            last = http.client.HTTPConnection(*server.server_address, timeout=10)
            try:
                last.request("GET", "/")
                assert last.getresponse().status == 200
                break
            except (ConnectionError, http.client.HTTPException):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            finally:
                last.close()
        server.shutdown()
        thread.join()


def test_a_site_written_anew_is_served_as_it_is(tmp_path):
    write_page(tmp_path)
    with SiteServer(tmp_path, "127.0.0.1", 0, headers={}) as server:
        assert set(server.files()) == {"/", "/index.html", "/assets/index-1a2b.js"}
        (tmp_path / "new.txt").write_text("new")
        assert "/new.txt" in server.files()
        assert server.headers == {} and server.url == f"http://127.0.0.1:{server.server_address[1]}/"


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_port_or_an_address_that_cannot_be_had_is_one_line(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = krypton("web", site, "--serve", "--port", port)
        assert f"port {port} of 127.0.0.1 is taken: give another by --port" in complaint(result)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        assert f"{host} is no address of this machine" in complaint(krypton("web", site, "--serve", "--host", host))


def test_a_port_of_the_system_is_told(site, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(serving.TCPServer, "server_bind", refuse)
    with pytest.raises(KryptonError, match="port 80 needs rights"):
        SiteServer(site, "127.0.0.1", 80)


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(site, ended_by):
    command = [sys.executable, "-m", "krypton_onnx", "web", str(site), "--serve", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        line = run.stdout.readline()
        port = int(re.fullmatch(r"serving .*/site at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", line)[1])
        held = http.client.HTTPConnection("127.0.0.1", port, timeout=10)  # a visitor who stays must not hold it up
        held.request("GET", "/")
        assert held.getresponse().status == 200
        run.send_signal(ended_by)
        rest, errors = run.communicate(timeout=20)
        held.close()
    assert (run.returncode, rest, errors) == (0, "stopped\n", "")


def test_serving_to_others_is_warned_of(site, monkeypatch):
    monkeypatch.setattr(SiteServer, "serve_forever", lambda self, poll_interval: None)
    result = krypton("web", site, "--serve", "--port", "0", "--host", "0.0.0.0")
    assert result.exit_code == 0
    assert "0.0.0.0 can be reached from other machines, which get this page without https" in result.stderr
    assert re.search(r"at http://localhost:\d+/ ", result.stdout)
