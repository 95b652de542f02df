"""Requests as they should not be, to be sent by a raw socket: a corpus, with what may come of each."""

from collections.abc import Iterator
from dataclasses import dataclass

EOL, HOST = b"\r\n", b"Host: 127.0.0.1\r\n"
JSON = b"Content-Type: application/json\r\n"
GET = b"GET /v1/status HTTP/1.1\r\n" + HOST
POST = b"POST /v1/recommendations HTTP/1.1\r\n" + HOST + JSON
SECOND = b"PUT /v1/items/MARK HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: 2\r\n\r\n{}"  # not to be smuggled in
REFUSED = frozenset(range(400, 500))
FINE = REFUSED | {200, 201}
LENGTHS = [
    "2, 2", "2,200", "+2", "-2", "0x2", "2abc", "", " ", "9" * 20, "9" * 30, "2\x00", "2 2", "1e1", "\u0662",
    "0000002x",
]  # fmt: skip
SIZES = [
    "0x2", "+2", "-2", " 2", "2\n", "zz", "", "F" * 17, "F" * 40, "2\x00", "2 \t;x", "2;" + "x" * 100_000, "\u0662",
]  # fmt: skip
HEADERS = [
    b"Foo Bar: x", b"Foo\x00: x", b": x", b"Foo: a\x00b", b"Foo: a\rb", b"Foo", b"Foo\x7f: x", b"\xff\xfe: x",
    b"Foo: \x01", b"Fo\xc3\xb6: x", b"(Foo): x", b"Foo;: x",
]  # fmt: skip
# some of them are read as if they were right, which harms nobody: one request, one answer
LINES = [
    b"GET /v1/status", b"GET /v1/status HTTP/0.9", b"GET /v1/status HTTP/2.0", b"GET /v1/status HTTP/1.2",
    b"GET  /v1/status HTTP/1.1", b"GET /v1/status  HTTP/1.1", b"GET\t/v1/status HTTP/1.1", b"GET /v1/status http/1.1",
    b"get /v1/status HTTP/1.1", b"GET /v1/status HTTP/1.1 x", b"GET /v1/ status HTTP/1.1",
    b"GET /v1/st\xc3\xa4tus HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET v1/status HTTP/1.1", b"GET  HTTP/1.1",
    b" GET /v1/status HTTP/1.1", b"BREW /v1/status HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET * HTTP/1.1",
    b"CONNECT 127.0.0.1:22 HTTP/1.1", b"CONNECT /v1/status HTTP/1.1", b"TRACE /v1/status HTTP/1.1",
    b"GET /v1/status HTTP/1.10", b"GET /v1/status HTTP/01.1", b"GET /v1/status FTP/1.1",
]  # fmt: skip
TARGETS = [
    b"http://127.0.0.1/v1/status", b"http://evil.example/v1/status", b"http://x@127.0.0.1:99/v1/status",
    b"https://127.0.0.1/v1/status", b"file:///etc/passwd", b"http:///v1/status", b"//evil.example/v1/status",
    b"/v1/status%0d%0aSet-Cookie:%20a=b/", b"/%0d%0aX-Evil:%20y",
]  # fmt: skip
NAMES = [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example#127.0.0.1",
    "[::1].evil", "127.0.0.1@evil.example", "evil.example@127.0.0.1", "127.0.0.1:80@evil.example",
    "127.0.0.1:80:evil", "127.0.0.1/evil", "", " ", "127.1", "0x7f.1", "2130706433", "0.0.0.0", "127.0.0.2",
    "localhost.", "[::ffff:127.0.0.1]", "127.0.0.1, evil.example", "evil.example, 127.0.0.1", "l\u00f6calhost",
    "127.0.0.1%00.evil.example", "127。0。0。1", "[::1", "*", "null", "localhost\tevil",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Bytes to send, and what may come of them."""

    name: str
    sent: bytes
    statuses: frozenset[int] = REFUSED  # of every answer; none at all is fine too, where there `may_close`
    most: int = 1  # requests that may reach the application
    may_close: bool = True
    then: str = "wait"  # or "half": say that no more is sent; "drop": be gone; "reset": the same, rudely


def _lengths() -> Iterator[Case]:
    """Yield two lengths in one request, and lengths that are none."""
    rest = b"\r\n{}" + SECOND
    for first, second in (("2", "200"), ("200", "2"), ("2", "2"), ("0", "44")):
        yield Case(
            f"lengths {first} and {second}",
            POST + f"Content-Length: {first}\r\nContent-Length: {second}\r\n".encode() + rest,
        )
    for said in (
        "2, 2",
        "2,200",
        "+2",
        "-2",
        "0x2",
        "2abc",
        "",
        " ",
        "9" * 20,
        "9" * 30,
        "2\x00",
        "2 2",
        "1e1",
        "\u0662",
        "00000002x",
    ):
        yield Case(f"length {said[:9]!a}", POST + f"Content-Length: {said}\r\n".encode() + rest, most=1)
    for name in ("Content-Length ", " Content-Length", "Content_Length", "Content-Length\x00", "Content-Length\t"):
        yield Case(f"length as {name!a}", POST + f"{name}: 200\r\nContent-Length: 2\r\n".encode() + rest, FINE, 2)


def _encodings() -> Iterator[Case]:
    """Yield a length beside chunks, and encodings that hide from one part of a chain."""
    chunks = b"\r\n2\r\n{}\r\n0\r\n\r\n"
    length = b"Content-Length: %d\r\n" % (len(chunks) - 2 + len(SECOND))
    for said in (
        "chunked",
        "Chunked",
        "xchunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "x",
        "",
    ):
        coding = f"Transfer-Encoding: {said}\r\n".encode()
        yield Case(f"length, then {said or 'no'} encoding", POST + length + coding + chunks + SECOND)
        yield Case(f"{said or 'no'} encoding, then length", POST + coding + b"Content-Length: 4\r\n" + chunks + SECOND)
    for name in (
        "Transfer-Encoding ",
        " Transfer-Encoding",
        "Transfer_Encoding",
        "Transfer-Encoding\x00",
        "X: y\r\n Transfer-Encoding",
    ):
        yield Case(f"{name!a}", POST + f"{name}: chunked\r\n".encode() + length + chunks + SECOND, FINE | {422})
    for said in (
        "\tchunked",
        " chunked \t",
        "\x0bchunked",
        "chunked\x00",
        '"chunked"',
        "chunked;q=1",
        "chunked\r\n\tx",
        "\u212ahunked",
    ):
        yield Case(f"encoding {said!a}", POST + b"Transfer-Encoding: " + said.encode() + EOL + length + chunks + SECOND)
    twice = b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"
    yield Case("two encodings and a length", POST + twice + length + chunks + SECOND)
    yield Case(
        "chunks in HTTP/1.0", POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n" + chunks + SECOND, FINE
    )


def _chunks() -> Iterator[Case]:
    """Yield chunks that are none."""
    head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for size in SIZES:
        yield Case(f"chunk of {size[:9]!a}", head + size.encode() + b"\r\n{}\r\n0\r\n\r\n" + SECOND, FINE)
    yield Case("a chunk longer than it says", head + b"2\r\n{}xx\r\n0\r\n\r\n" + SECOND)
    yield Case("a chunk without its end", head + b"2\r\n{}0\r\n\r\n" + SECOND)
    yield Case("chunks with line feeds alone", head + b"2\n{}\n0\n\n" + SECOND)
    yield Case("chunks that never end", head + b"1\r\n \r\n" * 2_000, then="drop")
    trailer = b"2\r\n{}\r\n0\r\nContent-Length: 200\r\nHost: evil.example\r\n\r\n"
    yield Case("lengths in a trailer", head + trailer, FINE)
    yield Case("a huge trailer", head + b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 30_000 + EOL, FINE)


def _heads() -> Iterator[Case]:
    """Yield heads that are wrong."""
    end = b"Connection: close\r\n\r\n"
    for line in HEADERS:
        yield Case(f"header {line!r}", GET + line + EOL + end)
    yield Case("a header that is folded", GET + b"Foo: a\r\n b\r\n" + end, FINE)
    yield Case("a space before the first header", GET.replace(HOST, b" " + HOST) + end)
    yield Case("line feeds alone", (GET + end).replace(EOL, b"\n"), FINE)
    yield Case("carriage returns alone", (GET + end).replace(EOL, b"\r"))
    yield Case("10,000 headers", GET + b"".join(b"X-%d: y\r\n" % n for n in range(10_000)) + end)
    yield Case("many headers of one letter", GET + b"a:b\r\n" * 9_000 + end, FINE)
    yield Case("a header of a megabyte", GET + b"X: " + b"y" * 1_000_000 + EOL + end)
    yield Case("a header of 40 KB", GET + b"X: " + b"y" * 40_000 + EOL + end)
    yield Case("a name of 40 KB", GET + b"X" * 40_000 + b": y\r\n" + end)
    yield Case("a target of 100 KB", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + end)
    yield Case("a target of 10 KB", b"GET /?" + b"x" * 10_000 + b" HTTP/1.1\r\n" + HOST + end)
    yield Case("a method of 100 KB", b"G" * 100_000 + b" / HTTP/1.1\r\n" + HOST + end)
    yield Case("a head that does not end", GET + b"X: y\r\n", then="half")
    for line in LINES:
        yield Case(f"line {line!r}", line + EOL + HOST + end, FINE)
    yield Case("HTTP/0.9", b"GET /v1/status\r\n", then="half")
    for target in TARGETS:
        sent = b"GET " + target + b" HTTP/1.1\r\n" + HOST + end
        yield Case(f"target {target!r}", sent, FINE | {307})


def _strangers() -> Iterator[Case]:
    """Yield what is no HTTP/1.1, or wants to become something else."""
    yield Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(range(180))
    yield Case("a greeting of TLS", hello)
    yield Case("a greeting of SSH", b"SSH-2.0-OpenSSH_9.2\r\n")
    yield Case("bytes", bytes(range(256)) * 40)
    yield Case("zeros", bytes(100_000))
    yield Case("nothing", b"", then="half")
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    for path in (b"/v1/status", b"/v1/events", b"/docs", b"/ws", b"/"):
        key = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        yield Case(f"a websocket to {path!r}", b"GET " + path + b" HTTP/1.1\r\n" + HOST + upgrade + key + EOL, FINE)
    yield Case("HTTP/2 in clear", GET + upgrade + b"Upgrade: h2c\r\n\r\n", FINE)
    yield Case(
        "a request hidden behind an upgrade", GET + upgrade + b"Upgrade: x\r\nContent-Length: 2\r\n\r\n{}", FINE, 2
    )
    yield Case("expecting what nobody knows", POST + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}", FINE | {417})
    yield Case(
        "expecting, and never sending",
        POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        FINE | {100},
        then="drop",
    )


def _connections() -> Iterator[Case]:
    """Yield connections that end early, late or not, and what must work on them."""
    yield Case("one request", GET + b"Connection: close\r\n\r\n", frozenset({200}), may_close=False)
    yield Case("empty lines first", EOL * 20 + GET + b"Connection: close\r\n\r\n", frozenset({200}), may_close=False)
    yield Case("three ahead", 3 * (GET + EOL), frozenset({200}), 3, may_close=False)
    yield Case("a thousand ahead", 1_000 * (GET + EOL), FINE, 1_000)
    body = POST + b"Content-Length: 2\r\n\r\n{}"
    yield Case("half closed", body, frozenset({200}), then="half")
    put = SECOND.replace(b"Content-Length: 2\r\n\r\n{}", b"")
    for then in ("drop", "reset", "half"):
        yield Case(f"{then} within a body", put + b'Content-Length: 90\r\n\r\n{"properties":{"a":1}', then=then)
        yield Case(f"{then} within chunks", put + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", then=then)
        yield Case(f"{then} within a head", put + b"Content-Le", then=then)


def _hosts() -> Iterator[Case]:
    """Yield names under which this server must not answer: a page of another site may have let one lead here."""
    for name in NAMES:
        for path in (b"/v1/status", b"/healthz", b"/docs"):
            sent = b"GET " + path + b" HTTP/1.1\r\nHost: " + name.encode() + b"\r\nConnection: close\r\n\r\n"
            yield Case(f"host {name!a} for {path!r}", sent, may_close=False)
    one = b"GET /v1/status HTTP/1.1\r\n"
    yield Case("no host", one + b"Connection: close\r\n\r\n", may_close=False)
    yield Case("no host in HTTP/1.0", b"GET /v1/status HTTP/1.0\r\n\r\n", may_close=False)
    for first, second in (
        (b"127.0.0.1", b"evil.example"),
        (b"evil.example", b"127.0.0.1"),
        (b"127.0.0.1", b"127.0.0.1"),
    ):
        yield Case(
            f"hosts {first!r} and {second!r}",
            one + b"Host: " + first + b"\r\nHost: " + second + b"\r\nConnection: close\r\n\r\n",
        )


CASES = [one for part in (_lengths, _encodings, _chunks, _heads, _strangers, _connections, _hosts) for one in part()]
