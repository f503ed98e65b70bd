"""fetch: pages as text, every way to fail, and every way to make it reach what is not public, by real servers."""

from __future__ import annotations

import gzip
import http.server
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from strangers import Opened, Serve, call, endless, failed, saying, slow_loris

from rest_jax.core.effects import ToolErrorKind
from rest_jax.core.errors import UserError
from rest_jax.tools.search.addresses import is_public, meant_by
from rest_jax.tools.search.fetch import FetchSettings, open_fetch

PAGE = b"<title>Oslo &amp; all</title><p>It is old.<p>It lies by a fjord."
HTML = {"Content-Type": "text/html"}


def opened(resolver: AbstractResolver | None = None, **settings: object) -> Opened:
    """`fetch` where 127.0.0.1 stands for the internet, and 127.0.0.2 for what is not public."""
    return open_fetch(FetchSettings(**{"allowed": ("127.0.0.1/32",), "timeout_s": 0.5, **settings}), resolver)


class Private:
    """A server that nobody should reach, and how often it was."""

    def __init__(self, host: str) -> None:
        private = self
        self.reached = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                private.reached += 1
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(b"credentials")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def private(request: pytest.FixtureRequest) -> Iterator[Private]:
    private = Private(getattr(request, "param", "127.0.0.2"))
    thread = threading.Thread(target=private.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield private
    private.server.shutdown()
    thread.join()
    private.server.server_close()


class Names(AbstractResolver):
    """Answers each question with the next of these answers: addresses, or the error of a resolver."""

    def __init__(self, *answers: Sequence[str] | int) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise socket.gaierror(answer, "the resolver says")
        known = {"hostname": host, "port": port, "family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}
        return [ResolveResult(host=address, **known) for address in answer]

    async def close(self) -> None:
        pass


def test_a_page_as_text(serve: Serve):
    url = serve(saying(PAGE, headers=HTML))
    reply = call(opened(), "fetch", url=f"{url}/oslo")
    assert reply.content == "Oslo & all\nIt is old.\nIt lies by a fjord."
    about = {"url": f"{url}/oslo", "title": "Oslo & all", "content_type": "text/html", "chars": len(reply.content)}
    assert reply.data == about
    cut = call(opened(chars=12), "fetch", url=url)
    assert (cut.content, cut.data["chars"]) == ("Oslo & all\nI", len(reply.content))
    title = call(opened(), "fetch", url=serve(saying(b"<title>" + b"t" * 10**5 + b"</title>", headers=HTML))).data[
        "title"
    ]
    assert title == "t" * 300


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("<meta charset='latin1'><p>caf\xe9".encode("latin-1"), "text/html", "café"),
        (b"<p>caf\xe9", "text/html; charset=ISO-8859-1", "café"),
        (b"\xef\xbb\xbfcaf\xc3\xa9 \xff", "text/plain", "café �"),
        (b"6\x07", "text/plain; charset=zip", "6\x07"),
        (b"+AGE-", "text/plain; charset=utf-7", "+AGE-"),
        (b"x", "text/plain; charset=no-such-thing", "x"),
        (b'{"a": 1}', "application/json", '{"a": 1}'),
        (b"<p>x", "application/xhtml+xml", "x"),
        (b"<p>x", "text/markdown", "<p>x"),
        (b"", "text/html", ""),
    ],
)
def test_what_a_page_is_written_in(serve: Serve, body: bytes, content_type: str, text: str):
    assert call(opened(), "fetch", url=serve(saying(body, headers={"Content-Type": content_type}))).content == text


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        (saying(b"", status=404), ToolErrorKind.TOOL_ERROR, "the server answered 404 Not Found"),
        (saying(b"", status=403), ToolErrorKind.TOOL_ERROR, "answered 403"),
        (saying(b"", status=503), ToolErrorKind.INFRA, "answered 503"),
        (saying(b"", status=429, headers={"Retry-After": "3"}), ToolErrorKind.RATE_LIMITED, "answered 429"),
        (saying(b"%PDF", headers={"Content-Type": "application/pdf"}), ToolErrorKind.TOOL_ERROR, "pdf is no text"),
        (saying(b"a" * 5001, headers=HTML), ToolErrorKind.TOOL_ERROR, "it has more than 5000 bytes"),
        (
            saying(gzip.compress(b"a" * 10**6), headers={**HTML, "Content-Encoding": "gzip"}),
            ToolErrorKind.TOOL_ERROR,
            "it has more than 5000 bytes",
        ),
        (endless, ToolErrorKind.TOOL_ERROR, "it has more than 5000 bytes"),
        (saying(b"not gzip", headers={**HTML, "Content-Encoding": "gzip"}), ToolErrorKind.INFRA, "gzip"),
        (slow_loris, ToolErrorKind.TIMEOUT, "it took more than 0.5 s"),
        (saying(b"", status=302, headers={"Location": "file:///etc/passwd"}), ToolErrorKind.TOOL_ERROR, "no such URL"),
        (saying(b"", status=302, headers={"Location": "http://["}), ToolErrorKind.TOOL_ERROR, "no such URL"),
    ],
)
def test_every_fault_is_typed(serve: Serve, handler: object, kind: ToolErrorKind, message: str):
    url = serve(handler)  # type: ignore[arg-type]
    failure = failed(opened(bytes=5000), "fetch", url=url)
    assert failure.kind is kind
    assert str(failure).startswith(f"cannot fetch {url}: ")
    assert message in str(failure)
    assert failure.retry_after_s == (3 if kind is ToolErrorKind.RATE_LIMITED else 0)


def test_a_body_that_breaks_off_may_be_whole_the_next_time(serve: Serve):
    async def html(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**HTML, "Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"<p>")
        assert request.transport is not None
        request.transport.abort()
        return response

    assert failed(opened(), "fetch", url=serve(html)).kind is ToolErrorKind.INFRA


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://a.org/", "gopher://a.org", "a.org", "http://", "http://[::1", "http://a b.org/"],
)
def test_what_is_no_url_of_the_web(url: str):
    assert failed(opened(), "fetch", url=url).kind is ToolErrorKind.TOOL_ERROR


def test_nobody_answers(nobody: str):
    failure = failed(opened(), "fetch", url=nobody)
    assert (failure.kind, "Connect call failed" in str(failure)) == (ToolErrorKind.TOOL_ERROR, True)


def test_a_name_that_is_none_is_told_from_a_resolver_that_is_down():
    unknown = failed(opened(Names(socket.EAI_NONAME)), "fetch", url="http://a.org/")
    assert unknown.kind is ToolErrorKind.TOOL_ERROR
    down = failed(opened(Names(socket.EAI_AGAIN)), "fetch", url="http://a.org/")
    assert down.kind is ToolErrorKind.INFRA


def test_a_server_without_tls(serve: Serve):
    url = serve(saying(PAGE, headers=HTML)).replace("http", "https")
    assert failed(opened(), "fetch", url=url).kind is ToolErrorKind.TOOL_ERROR


@pytest.mark.parametrize(("hops", "arrives"), [(5, True), (6, False)])
def test_at_most_five_redirects(serve: Serve, hops: int, arrives: bool):
    async def handler(request: web.Request) -> web.StreamResponse:
        left = int(request.query["left"])
        if left:
            raise web.HTTPFound(f"/?left={left - 1}")
        return web.Response(text="arrived")

    url = serve(handler)
    if arrives:
        reply = call(opened(), "fetch", url=f"{url}/?left={hops}")
        assert (reply.content, reply.data["url"]) == ("arrived", f"{url}/?left=0")
    else:
        failure = failed(opened(), "fetch", url=f"{url}/?left={hops}")
        assert (failure.kind, "more than 5 redirects" in str(failure)) == (ToolErrorKind.TOOL_ERROR, True)


def test_no_cookie_goes_from_one_fetch_to_the_next(serve: Serve):
    cookies = []

    async def handler(request: web.Request) -> web.StreamResponse:
        cookies.append(dict(request.cookies))
        if request.path == "/":
            raise web.HTTPFound("/next", headers={"Set-Cookie": "who=me"})
        return web.Response(text="x")

    call(opened(), "fetch", url=serve(handler))
    assert cookies == [{}, {}]


FORMS = [
    "127.0.0.2",
    "2130706434",
    "0x7f000002",
    "0177.0.0.2",
    "0x7f.0.0.2",
    "127.2",
    "127.0.2",
    "[::ffff:127.0.0.2]",
    "[::ffff:7f00:2]",
    "[64:ff9b::7f00:2]",
    "①②⑦.⓪.⓪.②",
    "user@127.0.0.2",
]


@pytest.mark.parametrize("host", FORMS)
def test_no_spelling_of_a_private_address_is_reached(private: Private, host: str):
    failure = failed(opened(), "fetch", url=f"http://{host}:{private.port}/")
    assert failure.kind is ToolErrorKind.TOOL_ERROR
    assert private.reached == 0


@pytest.mark.parametrize("host", ["127.0.0.2", "0x7f000002", "[::ffff:127.0.0.2]", "①②⑦.⓪.⓪.②"])
def test_what_holds_them_back_is_the_guard_alone(private: Private, host: str):
    reply = call(opened(allowed=("127.0.0.0/8",)), "fetch", url=f"http://{host}:{private.port}/")
    assert (reply.content, private.reached) == ("credentials", 1)


@pytest.mark.parametrize("private", ["127.0.0.1"], indirect=True)
def test_nor_is_a_name_that_leads_there(private: Private):
    failure = failed(opened(allowed=()), "fetch", url=f"http://localhost:{private.port}/")
    assert (failure.kind, private.reached) == (ToolErrorKind.TOOL_ERROR, 0)
    assert "it leads to an address that is not public" in str(failure)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_each_redirect_is_checked_anew(serve: Serve, private: Private, status: int):
    there = f"http://127.0.0.2:{private.port}/"
    failure = failed(opened(), "fetch", url=serve(saying(b"", status=status, headers={"Location": there})))
    assert (failure.kind, private.reached) == (ToolErrorKind.TOOL_ERROR, 0)
    assert "not public" in str(failure)


def test_a_name_is_resolved_once_and_the_address_that_was_checked_is_the_one_connected_to(
    serve: Serve, private: Private
):
    """DNS rebinding: the first answer is harmless, all others are not."""
    port = serve(saying(PAGE, headers=HTML)).rpartition(":")[2]
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    assert call(opened(names), "fetch", url=f"http://rebind.test:{port}/").data["title"] == "Oslo & all"
    assert len(names.answers) == 1
    assert failed(opened(names), "fetch", url=f"http://rebind.test:{private.port}/").kind is ToolErrorKind.TOOL_ERROR
    assert (names.answers, private.reached) == ([], 0)


def test_a_name_that_changes_between_a_page_and_its_redirect(serve: Serve, private: Private):
    redirect = saying(b"", status=302, headers={"Location": f"http://rebind.test:{private.port}/"})
    port = serve(redirect).rpartition(":")[2]
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    assert failed(opened(names), "fetch", url=f"http://rebind.test:{port}/").kind is ToolErrorKind.TOOL_ERROR
    assert (names.answers, private.reached) == ([], 0)


def test_of_several_addresses_only_the_public_ones_are_tried(serve: Serve, private: Private):
    names = Names(["127.0.0.2", "127.0.0.3"], ["127.0.0.2", "127.0.0.1"])
    port = serve(saying(PAGE, headers=HTML)).rpartition(":")[2]
    assert failed(opened(names), "fetch", url=f"http://a.test:{private.port}/").kind is ToolErrorKind.TOOL_ERROR
    assert call(opened(names), "fetch", url=f"http://a.test:{port}/").ok
    assert private.reached == 0


NOT_PUBLIC = """
0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
172.31.0.1 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.1.1.1
240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::1
100::1 2001::1 2001:db8::1 2002:7f00:1:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_what_is_not_public(address: str):
    assert not is_public(meant_by(address))
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    failure = failed(opened(), "fetch", url=f"http://{host}/latest/meta-data/")
    assert failure.kind is ToolErrorKind.TOOL_ERROR


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.32.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2606:4700::1111", "2a00:1450::1"]
)
def test_what_is_public(address: str):
    assert is_public(meant_by(address))


def test_an_address_dressed_as_ipv6_is_the_one_meant():
    assert meant_by("::ffff:1.2.3.4") == meant_by("64:ff9b::102:304") == IPv4Address("1.2.3.4")


def test_a_network_that_is_none():
    with pytest.raises(UserError, match=r"fetch\.allowed: .*10\.0\.0\.1/8 has host bits set; write a network as"):
        call(opened(allowed=("10.0.0.1/8",)), "fetch", url="http://a.org/")


def test_headers_show_who_asks_and_nothing_else(serve: Serve):
    seen: dict[str, str] = {}

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.update(request.headers)
        return web.Response(text="x")

    call(opened(), "fetch", url=serve(handler))
    assert set(seen) == {"Host", "User-Agent", "Accept", "Accept-Encoding"}
    assert re.fullmatch(r"rest_jax/[\d.]+", seen["User-Agent"])
