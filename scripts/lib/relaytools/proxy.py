# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that sits between the relay and one server and breaks the connection in chosen ways.

A `Rule` says what happens to the bytes of the connections it matches: they are delayed, throttled, held back (a
half-open connection, for which the kernel still acknowledges) or cut. Held bytes are delivered when the rule is
lifted, even if their sender has hung up meanwhile: this is how a request arrives long after it was given up.
Three kinds: "tcp" moves bytes; "kafka" also reads the frames' heads, so a rule can name requests (api keys) and
clients (client.id); "http" also reads requests and answers, so a rule can falsify or cut an answer.

All proxies live on one event loop in a thread of their own; their methods may be called from any thread.
"""
import asyncio
import collections
import random
import socket
import struct
import threading

PRODUCE, OFFSET_COMMIT, END_TXN = 0, 8, 26
TO_SERVER, TO_CLIENT = "to_server", "to_client"
BOTH = (TO_SERVER, TO_CLIENT)

EXCEPTION = b"Code: 241. DB::Exception: (total) memory limit exceeded: would use 3.73 GiB. (MEMORY_LIMIT_EXCEEDED) (version 26.7.2.1)\n"
# What a falsified answer may look like. The request may have been carried out or not: see Rule.http.
FULL_DISK = b"Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)\n"
ANSWERS = {
    "exception": b"HTTP/1.1 200 OK\r\nContent-Type: text/tab-separated-values; charset=UTF-8\r\nContent-Length: %d\r\n\r\n%s" % (len(EXCEPTION), EXCEPTION),
    "gateway": b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 38\r\n\r\n<html><body>Bad Gateway</body></html>\n",
    "disk": b"HTTP/1.1 500 Internal Server Error\r\nX-ClickHouse-Exception-Code: 243\r\nContent-Length: %d\r\n\r\n%s" % (len(FULL_DISK), FULL_DISK),
    "busy": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}
HTTP_FAULTS = ("swallow", "falsify", "cut_request", "cut_answer", "slow", "late")


class Rule:
    """What to do, to whom. Durations in seconds; `directions` out of TO_SERVER and TO_CLIENT.

    delay     each piece of data waits so long
    throttle  bytes a second
    hold      nothing passes until the rule is lifted; then everything does, in order
    hold_keys Kafka: from the first request of one of these api keys on, the connection's requests are held; at most
              `limit` connections, so that a retry on a new connection passes
    hold_texts tcp: the same from the data on in which the last of these texts stands, once those before it have passed
    replace   tcp: (text, another as long), which the other side reads in its place
    cut_after after so many more bytes the connection is reset
    http      one of HTTP_FAULTS; `answer` names the falsified answer. "swallow": the server never sees the request;
              "falsify": the server carries it out, the client reads something else; "late": at most `limit` requests are
              taken in whole and reach the server when the rule is lifted, whether their client is still there or not
    hang_up   with "late": the client's connection is cut at once
    match     http: only requests in whose head this stands
    client    Kafka: only connections of this client.id (those that have not said it yet are let through)
    `hits` counts how often the rule did something, `late_answers` the answers to late requests; `held` has the client.ids of the connections that hold_keys holds."""

    def __init__(self, directions=BOTH, delay=0.0, throttle=None, hold=False, hold_keys=(), hold_texts=(), limit=1,
                 cut_after=None, http=None, match=b"", hang_up=False, answer="exception", share=1.0,
                 client=None, seed=0, replace=None):
        self.directions, self.delay, self.throttle, self.hold = directions, delay, throttle, hold
        self.hold_keys, self.hold_texts, self.limit, self.cut_after = tuple(hold_keys), tuple(hold_texts), limit, cut_after
        self.http, self.match, self.hang_up, self.answer, self.share, self.client = http, match, hang_up, answer, share, client
        self.replace = replace
        self.hits = self.late_answers = 0
        self.held = []
        self._random = random.Random(seed)
        self._lifted = None

    def chosen(self):
        return self._random.random() < self.share


class _Loop:
    """The one event loop of all proxies."""
    _lock = threading.Lock()
    _loop = None

    @classmethod
    def get(cls):
        with cls._lock:
            if cls._loop is None:
                cls._loop = asyncio.new_event_loop()
                threading.Thread(target=cls._loop.run_forever, daemon=True, name="proxies").start()
            return cls._loop

    @classmethod
    def call(cls, function, *arguments, seconds=10):
        async def run():
            value = function(*arguments)
            return await value if asyncio.iscoroutine(value) else value
        return asyncio.run_coroutine_threadsafe(run(), cls.get()).result(seconds)


class _Cut(Exception):
    """The connection ends here, by RST."""


class _Connection:
    def __init__(self, proxy, reader, writer):
        self.proxy, self.client_reader, self.client_writer = proxy, reader, writer
        self.server_reader = self.server_writer = None
        self.client_id = None
        self.held_by = set()
        self.texts_seen = collections.Counter()     # of a rule's hold_texts, so far
        self.frames = _Frames() if proxy.kind == "kafka" else None

    async def connect(self):
        self.server_reader, self.server_writer = await asyncio.open_connection(*self.proxy.target, limit=1 << 20)
        _no_delay(self.server_writer)

    def writers(self):
        return [writer for writer in (self.client_writer, self.server_writer) if writer is not None]

    def close(self, reset):
        for writer in self.writers():
            if reset:
                _linger_zero(writer)
                writer.transport.abort()
            else:
                writer.close()

    # What a rule does to a piece of data on its way.

    async def passage(self, direction, data):
        """Waits as the rules say; raises _Cut, having delivered the part before the cut."""
        for rule in list(self.proxy.rules):
            if not self._matches(rule, direction):
                continue
            if rule.cut_after is not None:
                rule.hits += 1
                part = data[:max(0, rule.cut_after)]
                rule.cut_after -= len(data)
                if rule.cut_after <= 0:
                    rule.cut_after = None
                    await self._deliver(direction, part)
                    raise _Cut
            if rule.delay or rule.throttle:
                rule.hits += 1
                await _either(asyncio.sleep(rule.delay + (len(data) / rule.throttle if rule.throttle else 0.0)), rule._lifted.wait())
            if rule.hold or self._holds(rule, direction, data):
                rule.hits += 1
                await rule._lifted.wait()

    def _matches(self, rule, direction):
        if direction not in rule.directions or ((rule.hold_keys or rule.hold_texts) and direction != TO_SERVER):
            return False
        return rule.client is None or rule.client == self.client_id

    def _holds(self, rule, direction, data):
        if direction != TO_SERVER or not (rule.hold_keys or rule.hold_texts):
            return False
        if rule in self.held_by:
            return True
        if self._begins_hold(rule, data) and rule.limit > 0:
            rule.limit -= 1
            rule.held.append(self.client_id)
            self.held_by.add(rule)
            return True
        return False

    def _begins_hold(self, rule, data):
        if rule.hold_keys:
            return bool(self.frames.last_keys.intersection(rule.hold_keys))
        wanted = rule.hold_texts[min(self.texts_seen[rule], len(rule.hold_texts) - 1)]
        self.texts_seen[rule] += wanted in data
        return self.texts_seen[rule] >= len(rule.hold_texts)

    def _replaced(self, direction, data):
        for rule in list(self.proxy.rules):
            if rule.replace and self._matches(rule, direction) and rule.replace[0] in data:
                rule.hits += 1
                data = data.replace(*rule.replace)
        return data

    async def _deliver(self, direction, data):
        writer = self.server_writer if direction == TO_SERVER else self.client_writer
        if data:
            writer.write(data)
            await writer.drain()

    async def run(self):
        await self.connect()
        pumps = [asyncio.ensure_future(self._pump(self.client_reader, self.server_writer, TO_SERVER)),
                 asyncio.ensure_future(self._pump(self.server_reader, self.client_writer, TO_CLIENT))]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            for pump in done:
                pump.result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader, writer, direction):
        while True:
            try:
                data = await reader.read(65536)
            except ConnectionError:
                data = b""
            if not data:
                break
            if self.frames is not None and direction == TO_SERVER:
                self.frames.feed(data)
                self.client_id = self.frames.client_id or self.client_id
            if self.proxy.rules:
                await self.passage(direction, data)
                data = self._replaced(direction, data)
            self.proxy.moved[direction] += len(data)
            try:
                await self._deliver(direction, data)
            except ConnectionError:
                break
        # End of the stream is passed on, also when the other side is gone already.
        try:
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, RuntimeError):
            pass


class _Frames:
    """Follows the client's Kafka frames: size, api key, version, correlation id, client id."""

    def __init__(self):
        self.client_id = None
        self.last_keys = set()
        self._skip = 0
        self._head = b""

    def feed(self, data):
        self.last_keys = set()
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            # The head: 4 size, 2 key, 2 version, 4 correlation, 2 length of the client id, the id itself.
            wanted = 14
            if len(self._head) >= 14:
                wanted = 14 + max(0, struct.unpack(">h", self._head[12:14])[0])
            step = min(wanted - len(self._head), len(data) - position)
            self._head += data[position:position + step]
            position += step
            if len(self._head) == 14 and struct.unpack(">h", self._head[12:14])[0] > 0:
                continue
            if len(self._head) >= wanted:
                size, key = struct.unpack(">ih", self._head[:6])
                self.last_keys.add(key)
                self.client_id = self._head[14:].decode("utf-8", "replace") or self.client_id
                self._skip = max(0, size + 4 - len(self._head))
                self._head = b""


class _HttpConnection(_Connection):
    """Requests one after the other; the server is connected at the first one that needs it."""

    async def run(self):
        while True:
            try:
                head = await self.client_reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            rule = self._http_rule(head)
            headers = _headers(head)
            if headers.get(b"expect", b"").lower() == b"100-continue":
                self.client_writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
            mode = rule.http if rule else None
            if mode == "swallow":
                async for _ in _body(self.client_reader, headers):
                    pass
                await self._to_client(ANSWERS[rule.answer])
                continue
            if mode == "late":
                await self._late(head, headers, rule)
                return
            if mode == "slow":
                await _either(asyncio.sleep(rule.delay), rule._lifted.wait())
            if self.server_writer is None:
                await self.connect()
            await self._send(head, headers, mode)
            if not await self._answer(head, rule, mode):
                return

    def _http_rule(self, head):
        for rule in list(self.proxy.rules):
            if not rule.http or head.startswith(b"GET /ping") or rule.match not in head or not rule.chosen():
                continue
            if rule.http == "late":
                if rule.limit <= 0:
                    continue
                rule.limit -= 1
            else:
                rule.hits += 1
            return rule
        return None

    async def _late(self, head, headers, rule):
        """The request is taken in whole and carried out when the rule is lifted; its client may be gone by then."""
        body = [piece async for piece in _body(self.client_reader, headers)]
        rule.hits += 1
        if rule.hang_up:
            _linger_zero(self.client_writer)
            self.client_writer.transport.abort()
        await rule._lifted.wait()
        if self.server_writer is None:
            await self.connect()
        await self._to_server(head + b"".join(body))
        answer = await self.server_reader.readuntil(b"\r\n\r\n")
        pieces = [piece async for piece in _body(self.server_reader, _headers(answer))]
        rule.late_answers += 1
        try:
            await self._to_client(answer + b"".join(pieces))
        except ConnectionError:
            pass

    async def _to_server(self, data):
        if self.proxy.rules:
            await self.passage(TO_SERVER, data)
        self.proxy.moved[TO_SERVER] += len(data)
        await self._deliver(TO_SERVER, data)

    async def _to_client(self, data):
        if self.proxy.rules:
            await self.passage(TO_CLIENT, data)
        self.proxy.moved[TO_CLIENT] += len(data)
        await self._deliver(TO_CLIENT, data)

    async def _send(self, head, headers, mode):
        try:
            await self._to_server(head)
            pieces = 0
            async for piece in _body(self.client_reader, headers):
                if mode == "cut_request":
                    await self._to_server(piece[:max(1, len(piece) // 2)])
                    raise _Cut
                await self._to_server(piece)
                pieces += 1
            if mode == "cut_request":
                raise _Cut
        except ConnectionError:
            pass  # It may have answered before it hung up.

    async def _answer(self, request, rule, mode):
        """Passes the answer on; False when the connection is over."""
        head = await self._answer_head()
        if head is None:
            return False
        headers = _headers(head)
        no_body = head.split(b" ", 2)[1] in (b"204", b"304") or request.startswith(b"HEAD ")
        closes = not no_body and b"content-length" not in headers and b"transfer-encoding" not in headers
        if mode == "cut_answer":
            await self._deliver(TO_CLIENT, head[:len(head) // 2])
            raise _Cut
        if mode == "falsify":
            async for _ in _body(self.server_reader, headers, until_end=closes):
                pass
            await self._to_client(ANSWERS[rule.answer])
            return not closes
        await self._to_client(head)
        if not no_body:
            async for piece in _body(self.server_reader, headers, until_end=closes):
                await self._to_client(piece)
        return not closes and headers.get(b"connection", b"").lower() != b"close"

    async def _answer_head(self):
        """The answer's head; None when either side has hung up. A client that gives up takes its request with it, as
        without a proxy."""
        answer = asyncio.ensure_future(self.server_reader.readuntil(b"\r\n\r\n"))
        gone = asyncio.ensure_future(_gone(self.client_reader))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
            return answer.result() if answer.done() else None
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(reader):
    while not reader.at_eof() and reader.exception() is None:
        await asyncio.sleep(0.05)


async def _either(*waits):
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _headers(head):
    pairs = (line.split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


async def _body(reader, headers, until_end=False):
    """The bytes of a body as they are on the wire, piece by piece."""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if size == 0:
                tail = line
                while True:
                    part = await reader.readuntil(b"\r\n")
                    tail += part
                    if part == b"\r\n":
                        yield tail
                        return
            yield line + await reader.readexactly(size + 2)
    left = int(headers.get(b"content-length", b"0"))
    while left > 0 or until_end:
        piece = await reader.read(65536 if until_end else min(65536, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _no_delay(writer):
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _linger_zero(writer):
    try:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass


class Proxy:
    """Listens on a port of its own from the start; `target` may be set later. kind: tcp, kafka or http."""

    def __init__(self, target=None, kind="tcp", name="proxy"):
        self.target, self.kind, self.name = target, kind, name
        self.rules = []
        self.moved = {TO_SERVER: 0, TO_CLIENT: 0}
        self._connections = {}
        self._server = None
        self.port = 0
        _Loop.call(self._listen)

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        connection = (_HttpConnection if self.kind == "http" else _Connection)(self, reader, writer)
        self._connections[connection] = asyncio.current_task()
        reset = False
        try:
            _no_delay(writer)
            await connection.run()
        except (_Cut, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            reset = True
        except asyncio.CancelledError:
            reset = None  # cut() has closed it its own way.
        finally:
            self._connections.pop(connection, None)
            if reset is not None:
                connection.close(reset)

    def add(self, rule):
        def add():
            rule._lifted = asyncio.Event()
            self.rules.append(rule)
        _Loop.call(add)
        return rule

    def lift(self, rule):
        """The rule is over: what it held is delivered. Unknown rules are ignored."""
        def lift():
            if rule in self.rules:
                self.rules.remove(rule)
                rule._lifted.set()
        _Loop.call(lift)

    def lift_all(self):
        for rule in list(self.rules):
            self.lift(rule)

    def cut(self, reset=True, share=1.0, client=None, seed=0):
        """Ends connections now (RST, else FIN); returns how many. Bytes on their way are lost."""
        rng = random.Random(seed)
        def cut():
            count = 0
            for connection, task in list(self._connections.items()):
                if rng.random() < share and (client is None or connection.client_id == client):
                    connection.close(reset)
                    task.cancel()
                    count += 1
            return count
        return _Loop.call(cut)

    def refuse(self):
        """Nobody listens any more; connections that exist go on."""
        async def refuse():
            if self._server is not None:
                self._server.close()
                self._server = None
        _Loop.call(refuse)

    def accept(self):
        _Loop.call(self._listen)

    def close(self):
        self.lift_all()
        self.refuse()
        self.cut()
