"""The server of `srlm watch`: GET of a page and of JSON, on 127.0.0.1 alone.

A page of another site could point a name of its own at 127.0.0.1: the Host must be ours. Its script could send a form
here: what writes wants JSON, our Origin and the token that stands in the page.
"""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stages.commands.watch_view import MOMENTARY, View
from stages.console.errors import SrlmError

ADDRESS = "127.0.0.1"
LONGEST = 10_000
"""Bytes of what may be posted."""
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = re.compile(r'http-equiv="Content-Security-Policy" content="([^"]+)"')


@contextmanager
def serve(view: View, port: int) -> Iterator[str]:
    """The address at which `view` is served while the context is open. Raises SrlmError where the port is taken."""

    class Bound(Handler):
        pass

    Bound.view = view
    try:
        server = Server((ADDRESS, port), Bound)
    except OSError as e:
        raise SrlmError(f"cannot listen on {ADDRESS}:{port}: {e.strerror}. Name another: srlm watch --port 0") from None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{ADDRESS}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False


class Handler(BaseHTTPRequestHandler):
    view: View
    server_version, sys_version = "srlm", ""
    timeout = 30

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if not self._ours():
            return
        try:
            if url.path == "/":
                self._page(self.view.html())
            elif url.path == "/api/state":
                self._json(self.view.state())
            elif url.path == "/api/pairs":
                self._json(self.view.pairs(query))
            else:
                self._json({"error": f"there is no {url.path[:100]} here"}, HTTPStatus.NOT_FOUND)
        except MOMENTARY as e:
            self._json({"error": str(e)}, HTTPStatus.SERVICE_UNAVAILABLE)
        except ValueError as e:
            self._json({"error": str(e)}, HTTPStatus.BAD_REQUEST)
        except Exception:
            self._json({"error": "a fault of srlm watch: its terminal says which"}, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """A review of a pair: from our page alone, which knows the token."""
        if not self._ours():
            return
        origins = [f"http://{host}" for host in self._hosts()]
        token, kind = self.headers.get("X-Srlm-Token", ""), self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        known = bool(self.view.token) and hmac.compare_digest(token.encode(), self.view.token.encode())
        if self.headers.get("Origin") not in origins or not known:
            self._json({"error": "reviews come from the page of srlm watch alone: load it again"}, HTTPStatus.FORBIDDEN)
        elif self.path != "/api/review" or kind != "application/json":
            self._json({"error": "expected JSON at /api/review"}, HTTPStatus.NOT_FOUND)
        elif not length.isdecimal() or int(length) > LONGEST:
            self._json({"error": f"expected at most {LONGEST} bytes"}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            try:
                self._json(self.view.review(json.loads(self.rfile.read(int(length)))))
            except SrlmError as e:
                self._json({"error": str(e)}, HTTPStatus.SERVICE_UNAVAILABLE)
            except ValueError as e:
                self._json({"error": str(e)}, HTTPStatus.BAD_REQUEST)

    def _ours(self) -> bool:
        """Whether the request means this server, and not a name that another site has given it."""
        if self.headers.get_all("Host", []) in ([host] for host in self._hosts()):
            return True
        self._json({"error": "the Host is not this server's"}, HTTPStatus.FORBIDDEN)
        return False

    def _hosts(self) -> list[str]:
        port = self.server.server_address[1]  # type: ignore[index]
        return [f"{ADDRESS}:{port}", f"localhost:{port}"]

    def _page(self, text: str) -> None:
        policy = POLICY.search(text)
        own = f"{policy[1].replace('&#39;', chr(39))}; frame-ancestors 'none'" if policy else "default-src 'none'"
        self._send(text.encode(), "text/html; charset=utf-8", HTTPStatus.OK, {"Content-Security-Policy": own})

    def _json(self, data: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        text = json.dumps(data, allow_nan=False).encode()
        self._send(text, "application/json", status, {"Content-Security-Policy": "default-src 'none'"})

    def _send(self, content: bytes, kind: str, status: HTTPStatus, more: dict[str, str]) -> None:
        with suppress(ConnectionError):  # whoever asked has left
            self.send_response(status)
            for name, value in (HEADERS | more | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a page that asks every second would fill the terminal."""
