"""The HTTP reader: what it takes, what it costs, and how it differs from waitress's parser."""

import gc
import random
import sys
import time

import pytest
from support import heads
from worker_daemon.edge.http1 import request_head, request_parser

SMALL, LARGE = 16 << 10, 64 << 10
RECORD = 16384  # bytes that a connection reads at once
LITTLE = 0.02  # seconds of CPU time, which are more than any cost that is linear comes to
SEED = 9112


_made = []


@pytest.fixture(autouse=True)
def _closed():
    """Close what a test has read."""
    yield
    while _made:
        _made.pop().close()


def read(data, *, pieces=(), of=request_parser.RequestParser, **limits):
    """Read one request; `pieces` are the lengths of its parts, the last for the rest of it."""
    reader = of(heads.adjustments(**limits))
    _made.append(reader)
    at, lengths = 0, list(pieces)
    while at < len(data) and not reader.completed:
        length = (lengths.pop(0) if len(lengths) > 1 else lengths[0]) if lengths else RECORD
        piece = data[at : at + length]
        at += reader.received(piece)
        while getattr(reader, "withheld", False):
            ahead = reader.resume()
            at -= len(ahead)
            while ahead and not reader.completed:
                taken = reader.received(ahead)
                at, ahead = at + taken, ahead[taken:]
    return reader, at


def steps(work):
    """Return how many functions, of Python and of C, are called by `work()`."""
    count = 0

    def step(_frame, event, _argument):
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # it would call what closes the garbage of other tests
    sys.setprofile(step)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def cpu_time(work):
    """Return the least CPU time of this thread that `work()` takes."""
    times = []
    for _ in range(3):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
        if times[-1] < LITTLE:
            break
    return min(times)


def grows_too_fast(small, large):
    """Return what is wrong if `large()`, of four times the bytes, costs over five times `small()`.

    Calls are counted. The time inside of C functions cannot be: there the cost by the square, 16
    times as much and seconds in all, is told from a linear one, which is below 20 ms in all.
    """
    few, many = steps(small), steps(large)
    if many > 5 * few:
        return f"{few} calls, then {many}"
    if (long := cpu_time(large)) <= LITTLE:
        return None
    short = cpu_time(small)
    return f"{short:.4f} s, then {long:.4f} s" if long > 5 * max(short, LITTLE / 5) else None


@pytest.mark.parametrize("name", [*heads.POSITIONS, *heads.BODIES])
def test_no_position_of_the_grammar_costs_more_than_its_length(name):
    """One request of a stranger would stop the server for everybody."""
    position = (heads.POSITIONS | heads.BODIES)[name]
    wrong = {}
    for octet in heads.OCTETS:
        small, large = (heads.filled(position, octet, size) for size in (SMALL, LARGE))
        if fault := grows_too_fast(lambda data=small: read(data), lambda data=large: read(data)):
            wrong[octet] = fault
    assert wrong == {}


class Watched(bytearray):
    """A buffer that counts the bytes that are searched."""

    searched = 0

    def find(self, wanted, start=0):
        self.searched += len(self) - start
        return super().find(wanted, start)


@pytest.mark.parametrize("octet", [b"a", b"\r", b"\n", b"\r\n\r", b"a: b\r\n", b" "])
def test_a_head_in_single_bytes_is_searched_once(octet):
    """A stranger who sends each byte in a record of its own would stop the server."""
    data = b"GET / HTTP/1.1\r\nX: " + octet * (SMALL // len(octet))
    reader = request_parser.RequestParser(heads.adjustments())
    reader.received(data[:1])
    reader._head = Watched(reader._head)

    def send(part):
        for at in range(len(part)):
            reader.received(part[at : at + 1])

    rest = data[1:]
    first, second = (steps(lambda part=part: send(part)) for part in (rest[:1000], rest[1000:]))
    if reader.error is None:  # else a head has ended in between
        assert isinstance(reader._head, Watched)
        assert reader._head.searched <= 4 * len(data)
        assert second <= first * (len(rest) / 1000), "each byte costs the same"


@pytest.mark.parametrize("start", [b"", b"5;", b"0\r\nX: "])
def test_a_line_between_chunks_in_single_bytes_costs_the_same_for_each(start):
    """A stranger who sends each byte in a record of its own would stop the server."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, _ = read(head + start)

    def send(count):
        for _ in range(count):
            reader.received(b"a" if start else b"0")

    first, last = steps(lambda: send(1000)), steps(lambda: send(2900))
    assert last <= 3 * first
    send(300)
    assert reader.error.code == 400, "and it has an end"


def test_empty_lines_before_a_request_have_an_end():
    """A stranger would keep the server busy with nothing."""
    reader = request_parser.RequestParser(heads.adjustments(head=4096))
    for _ in range(5000):
        reader.received(b"\r\n")
    assert reader.error.code == 431


# Bounds


def get(target=b"/", fields=b"", method=b"GET"):
    """Return a request without a body."""
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (method, target, fields)


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (get(b"/" + b"a" * 8191), None, ""),
        (get(b"/" + b"a" * 8192), 414, "the target is longer than 8192 bytes"),
        (get(fields=b"X: a\r\n" * 127), None, ""),
        (get(fields=b"X: a\r\n" * 128), 431, "there are more than 128 header fields"),
        (get(method=b"A" * 32), None, ""),
        (get(method=b"A" * 33), 400, "the method is longer than 32 bytes"),
        (get(fields=b"Content-Length: 1000\r\n") + b"a" * 1000, None, ""),
        (get(fields=b"Content-Length: 1001\r\n"), 413, "the body is longer than 1000 bytes"),
        (get(fields=b"Content-Length: " + b"0" * 19 + b"\r\n"), 400, "at most 18 digits"),
        (
            get(fields=b"Authorization: a\r\nAuthorization: b\r\n"),
            400,
            "more than one Authorization",
        ),
        (get(fields=b"X: a\r\n b\r\n"), 400, "not NAME: VALUE on one line"),
        (get(b"ftp://x/"), 400, "neither a path nor an https:// address"),
        (get(b"/\xc3\xa4"), 400, "in ASCII"),
    ],
)
def test_a_head_has_bounds_and_says_them(data, code, why):
    """The documented bounds would be others, or a client not learn which one it met."""
    reader, _ = read(data, body=1000)
    assert (reader.error and reader.error.code) == code
    assert why in (reader.error.body if reader.error else "")
    assert reader.completed


def test_the_head_limit_is_exact():
    """A head of exactly the limit would be refused, or a longer one taken."""
    data = get(fields=b"X: " + b"a" * 4000 + b"\r\n")
    assert read(data, head=len(data))[0].error is None
    error = read(data, head=len(data) - 1)[0].error
    assert error.code == 431
    assert error.body == f"the head of the request is longer than {len(data) - 1} bytes"


def test_a_large_body_is_kept_on_disk(tmp_path, monkeypatch):
    """Many users who send large bodies at the same time would use up the memory."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = bytes(range(256)) * (4 << 10)
    chunked = b"100000\r\n%s\r\n0\r\n\r\n" % body
    for framing, sent in (
        (b"Content-Length: %d\r\n" % len(body), body),
        (b"Transfer-Encoding: chunked\r\n", chunked),
    ):
        reader, _ = read(get(fields=framing) + sent, body=2 << 20)
        stream = reader.get_body_stream()
        assert stream.fileno() > 0, "a file"
        assert stream.read() == body
        assert reader.headers["CONTENT_LENGTH"] == str(len(body))
        reader.close()
        assert stream.closed


def test_a_body_that_cannot_be_stored_is_refused(monkeypatch):
    """A full disk would close connections without a word."""
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    data = get(fields=b"Content-Length: 1048576\r\n") + bytes(1 << 20)
    reader, _ = read(data, body=2 << 20)
    assert reader.error.code == 503
    assert reader.error.body == "the body cannot be stored: No such file or directory"


# The old parser as the oracle

SEEDS = [
    get(),
    get(b"/jobs?limit=5&status=running", b"Authorization: Basic YTpi\r\nAccept: */*\r\n"),
    get(b"http://h/x?y#z", b"X-A: 1\r\nX-A: 2\r\nX_B: 3\r\n"),
    get(b"https://[::1]:8443", b"Connection: close\r\nContent-Length: 0\r\n"),
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a%20b%zz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    get(fields=b"Content-Length: 5\r\nExpect: 100-continue\r\n", method=b"PUT") + b"abcde",
    get(fields=b"Transfer-Encoding: chunked\r\n", method=b"POST")
    + b'5;a="b"\r\nabcde\r\n00A \r\n0123456789\r\n0\r\nX: y\r\n\r\n',
    get(fields=b"Transfer-Encoding: chunked, gzip\r\n"),
    b"\r\n\r\n" + get(fields=b"X:  a \t\r\n"),
    get(fields=b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
]
BITS = [*heads.OCTETS, b"\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"]
BITS += [
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"http://",
    b"Host: y\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n",
]


def mutated(chance):
    """Return a request that may or may not be one."""
    data = bytearray(chance.choice(SEEDS))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at:at] = chance.choice(BITS)
            case 1:
                del data[at : at + chance.choice((1, 1, 2, 8))]
            case 2:
                data[at : at + 1] = chance.choice(BITS)
            case 3:
                lines = bytes(data).split(b"\r\n")
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                data[:] = b"\r\n".join(lines)
    return bytes(data)


def _first(data):
    return data.lstrip().partition(b"\r\n")[0].rstrip()


def _head(data):
    return data.lstrip().partition(b"\r\n\r\n")[0]


# What waitress takes and we refuse: our reason, and what must be true of the request.
STRICTER = {
    "the target is neither a path nor an https:// address": lambda data: (
        not _first(data).split(b" ")[1].startswith(b"/")
    ),
    "a header field is not NAME: VALUE on one line": lambda data: (
        b"\r\n " in _head(data) or b"\r\n\t" in _head(data)
    ),
    "the request line is not METHOD TARGET HTTP/1.1 in ASCII": lambda data: any(
        not 0x21 <= octet < 0x7F for octet in _first(data).split(b" ")[1]
    ),
    "only HTTP/1.1 and HTTP/1.0 are supported": lambda data: (
        not data.lstrip()
        .partition(b"\r\n")[0]
        .rstrip(b" \t")
        .endswith((b" HTTP/1.1", b" HTTP/1.0"))
    ),
    "the size of a chunk is not a hexadecimal number": lambda data: (
        b"\r\n\r\n\r\n" in data or b"\r\n\r\n" in data.partition(b"\r\n\r\n")[2]
    ),
    "there is more than one Expect header": lambda data: data.lower().count(b"\nexpect:") > 1,
    "there is more than one Authorization header": lambda data: (
        data.lower().count(b"\nauthorization:") > 1
    ),
    "a line between two chunks has control characters": lambda data: b"chunked" in data,
    "the request line does not begin with a method in capital letters": lambda data: (
        data[: len(data) - len(data.lstrip())].strip(b"\r\n") != b""
    ),
}


# What waitress refuses and we take, because we never look at it.
LOOSER = ("does not appear to be an IPv4 or IPv6 address", "Invalid chunk extension")


def difference(data, ours, at, theirs, theirs_at):
    """Return in what the two readers differ where they must not."""
    if ours.error is not None:
        why = ours.error.body
        if theirs.error is None and not (why in STRICTER and STRICTER[why](data)):
            return f"refused: {why}"
        codes = (ours.error.code, theirs.error.code) if theirs.error else ()
        # With several faults, which of them is named depends on the order of the checks.
        return None if not codes or set(codes) <= {400, 501} else f"status {codes}"
    if theirs.error is not None:
        why = theirs.error.body
        return None if any(each in why for each in LOOSER) else f"taken, but {why}"
    if not (ours.completed and theirs.completed):
        return None if ours.completed == theirs.completed else "complete, or not"
    theirs.path = theirs.path or "/"  # of http://host (RFC 9110, 4.2.3)
    for name in ("command", "request_uri", "path", "query", "version", "headers"):
        if getattr(ours, name) != getattr(theirs, name):
            return name
    if ours.get_body_stream().read() != theirs.get_body_stream().read():
        return "body"
    return None if data[at:] == data[theirs_at:] else "end"


def test_it_reads_what_the_parser_of_waitress_reads():
    """A proxy in front, or a client, would mean one request and the server understand another."""
    chance = random.Random(SEED)
    taken = 0
    for _ in range(6000):
        data = mutated(chance)
        ours, at = read(data)
        theirs, theirs_at = _by_oracle(data)
        assert difference(data, ours, at, theirs, theirs_at) is None, data
        taken += ours.error is None and ours.completed
    assert taken > 1000


def _by_oracle(data):
    at = 0
    while True:
        theirs, taken = read(data[at:], of=heads.Oracle)
        at += taken
        if not theirs.empty or at >= len(data):
            return theirs, at


def test_it_reads_the_same_in_whatever_pieces():
    """What a request says would depend on how the network cuts it."""
    chance = random.Random(SEED)
    for _ in range(1500):
        data = mutated(chance)
        whole, end = read(data)
        pieces = [chance.choice((1, 1, 2, 3, 7, 40)) for _ in range(len(data))]
        cut, cut_end = read(data, pieces=pieces)
        assert (cut.error and cut.error.body) == (whole.error and whole.error.body), data
        if whole.error is None and whole.completed:
            assert cut_end == end, data
            assert cut.headers == whole.headers, data
            assert cut.get_body_stream().read() == whole.get_body_stream().read(), data


def test_every_field_value_of_http_is_read():
    """Names in other scripts, or a password's encoding, would be refused or changed."""
    value = bytes(octet for octet in range(256) if octet in request_head.FIELD_VALUE)
    reader, _ = read(get(fields=b"X: a" + value + b"a\r\n"))
    assert reader.headers["X"].encode("latin-1") == b"a" + value + b"a"
