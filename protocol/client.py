"""Python client of Ringtide: sessions of a language model whose context never ends.

    with Client("127.0.0.1:7717") as client:
        session = client.open("notes")
        session.append(open("book.txt", "rb"))
        for text in session.generate(max_tokens=100):
            print(text, end="", flush=True)

Calls block; a client may be used by several threads, one call at a time each. What the server
declines is raised as RingtideError, a broken connection as ConnectionLost, what does not fit the
schema as TypeError or ValueError before it is sent. Needs pycapnp 2, and ringtide.capnp beside this
file.
"""

import asyncio
import atexit
import itertools
import os
import queue
import re
import threading
import types
import weakref

import capnp

_HERE = os.path.dirname(os.path.abspath(__file__))
_PIECE = 64 << 10  # bytes of text in one write
_CONNECT_SECONDS = 10


def _load_schema():
    # pycapnp ships capnp/c++.capnp and capnp/stream.capnp in its own package.
    imports = [os.path.dirname(os.path.dirname(os.path.abspath(capnp.__file__)))]
    return capnp.load(os.path.join(_HERE, "ringtide.capnp"), imports=imports)


_schema = _load_schema()


class RingtideError(Exception):
    """The server's outcome: `code` as in the schema ("notFound", "busy", ...), `offset` with
    "offsetMismatch" what the session holds."""

    def __init__(self, code, message, offset=0):
        super().__init__(message)
        self.code = code
        self.offset = offset


class ConnectionLost(RingtideError):
    """There is no connection: none could be made, or the server is gone or closed it. What was
    acknowledged is kept: connect again, open the session by name and go on at its
    `appended_bytes`."""

    def __init__(self, message):
        super().__init__("internal", message)


def _snake(name):
    return re.sub(r"[A-Z]", lambda m: "_" + m.group().lower(), name)


def _camel(name):
    return re.sub(r"_(.)", lambda m: m.group(1).upper(), name)


def _record(reader):
    """A struct as plain attributes, named as Python names things."""
    fields = reader.to_dict()
    return types.SimpleNamespace(**{_snake(name): value for name, value in fields.items()})


def _message(kind, fields):
    """A struct of the schema, of fields named as Python names them."""
    known = kind.schema.fieldnames
    message = kind.new_message()
    for name, value in fields.items():
        if _camel(name) not in known:
            raise TypeError(f"there is no {name!r}, but {', '.join(map(_snake, known))}")
        try:
            setattr(message, _camel(name), value)
        except (capnp.KjException, TypeError) as e:
            raise ValueError(f"{name} cannot be {value!r}: {_why(e)}") from None
    return message


def _place(address):
    """("unix", path), or a host and a port."""
    host, _, port = address.rpartition(":")
    if host == "unix" and port:
        return host, port
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"the address {address!r} is neither host:port nor unix:/path")
    return host.strip("[]"), int(port)


def _why(error):
    """What an exception says, without the traces that Cap'n Proto appends."""
    if isinstance(error, OSError) and (error.errno or 0) > 0:
        return os.strerror(error.errno)
    text = (getattr(error, "description", None) or str(error)).strip()
    return text.removeprefix("remote exception: ") or type(error).__name__


class _Declined(Exception):
    """A results union that holds an error, on its way out of the loop's thread."""

    def __init__(self, error):
        self.args = (str(error.code), error.message, error.offset)


def _checked(results):
    if results.which() == "error":
        raise _Declined(results.error)
    return results


class _Loop:
    """The thread that owns everything of Cap'n Proto. Capabilities never leave it: callers hold
    numbers, because destroying a capability is a matter for its own thread too."""

    def __init__(self, address):
        self.address = address
        self.place = _place(address)
        self.capabilities = {}
        self._numbers = itertools.count(1)
        self._ready = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ringtide", daemon=True)
        self._thread.start()
        failure = self._ready.get()
        if failure is not None:
            self._thread.join()
            raise ConnectionLost(failure)
        _running.add(self)

    def keep(self, capability):
        number = next(self._numbers)
        self.capabilities[number] = capability
        return number

    def drop(self, number):
        try:
            self.loop.call_soon_threadsafe(self.capabilities.pop, number, None)
        except RuntimeError:
            pass  # the loop is closed, and the capability with it

    def submit(self, coroutine):
        """Starts a coroutine on the loop; the future gives (value, error)."""
        if not self._thread.is_alive():
            coroutine.close()
            raise ConnectionLost("the client is closed")
        return asyncio.run_coroutine_threadsafe(self._guard(coroutine), self.loop)

    def call(self, coroutine):
        return self.value(self.submit(coroutine).result())

    @staticmethod
    def value(outcome):
        value, error = outcome
        if error is not None:
            raise error
        return value

    def close(self):
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _guard(self, coroutine):
        # Errors leave as values: a traceback would carry capabilities to another thread.
        try:
            return await coroutine, None
        except _Declined as e:
            return None, RingtideError(*e.args)
        except capnp.KjException as e:
            why = _why(e)
            if e.type == "DISCONNECTED":
                text = f"the connection to {self.address} is lost ({why})"
                return None, ConnectionLost(text + "; connect again and open the session by name")
            return None, RingtideError("internal", f"the call to {self.address} failed: {why}")
        except asyncio.CancelledError:
            return None, ConnectionLost("the client is closed")
        except Exception as e:
            return None, e.with_traceback(None)

    def _run(self):
        try:
            asyncio.run(capnp.run(self._main()))
        except Exception as e:
            why = _why(e)
            if isinstance(e, asyncio.TimeoutError):
                why = f"no answer within {_CONNECT_SECONDS} seconds; is it a Ringtide server?"
            elif isinstance(e, OSError):
                why += "; is the server running there?"
            self._ready.put(f"cannot connect to {self.address}: {why}")

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await asyncio.wait_for(self._connect(), _CONNECT_SECONDS)
        self._ready.put(None)
        await self._stop.wait()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        self.capabilities.clear()
        self.server = None

    async def _connect(self):
        host, port = self.place
        if host == "unix":
            stream = await capnp.AsyncIoStream.create_unix_connection(port)
        else:
            stream = await capnp.AsyncIoStream.create_connection(host, port)
        self.server = capnp.TwoPartyClient(stream).bootstrap().cast_as(_schema.Ringtide)
        await self.server.server()  # a server that is full says so here


# A loop that still ran when the interpreter ends would end the process by a signal.
_running = weakref.WeakSet()


@atexit.register
def _close_all():
    for loop in list(_running):
        loop.close()


class Client:
    """A connection to the server at "host:port" or "unix:/path"."""

    def __init__(self, address):
        self._loop = _Loop(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the connection: sessions are released, generations cancelled, nothing is lost."""
        self._loop.close()

    def open(self, name="", id=0, mode="any", policy=None, template="", system=None):
        """Opens a session by name, or by the id of an earlier one.

        mode: "any" (resume or create), "resume", "create". policy: a name, or a dict with the
        fields of the schema's Policy. system: the system prompt of a new session.
        """
        modes = _schema.OpenRequest.Mode.schema.enumerants
        if mode not in modes:
            raise ValueError(f"mode cannot be {mode!r}, but {', '.join(modes)}")
        policy = {"name": policy} if isinstance(policy, str) else dict(policy or {})
        request = {
            "session": _message(_schema.SessionRef, {"name": name, "id": id}),
            "mode": mode,
            "policy": _message(_schema.Policy, policy),
            "templateFamily": template,
            "system": {"default": None} if system is None else {"text": system},
        }

        async def call():
            results = _checked(await self._loop.server.open(**request))
            opened = results.opened
            return self._loop.keep(opened.session), _record(opened.info), opened.created

        return Session(self._loop, *self._loop.call(call()))

    def list(self):
        """Every session the server knows."""

        async def call():
            results = _checked(await self._loop.server.list())
            return [_record(info) for info in results.sessions]

        return self._loop.call(call())

    def info(self, name="", id=0):
        """One session, which need not be open."""
        session = _message(_schema.SessionRef, {"name": name, "id": id})

        async def call():
            return _record(_checked(await self._loop.server.info(session=session)).info)

        return self._loop.call(call())

    def remove(self, name="", id=0):
        """Deletes a session that is not generating."""
        session = _message(_schema.SessionRef, {"name": name, "id": id})

        async def call():
            _checked(await self._loop.server.remove(session=session))

        self._loop.call(call())

    def tokenize(self, text):
        """[(token, its bytes), ...] of str or bytes."""

        async def call():
            results = _checked(await self._loop.server.tokenize(text=_bytes(text)))
            return [(token.id, token.text) for token in results.tokens]

        return self._loop.call(call())

    def server(self):
        """What the server says of itself."""

        async def call():
            return _record(_checked(await self._loop.server.server()).server)

        return self._loop.call(call())


class Session:
    """A hold on one session; `opened` is its info at that time, `created` whether it is new."""

    def __init__(self, loop, number, opened, created):
        self._loop = loop
        self._number = number
        self.opened = opened
        self.created = created

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    def close(self):
        """Releases the session: it is paused, and nothing is lost."""
        self._loop.drop(self._number)

    def append(self, texts, offset=None, progress=None):
        """Streams str or bytes, an iterable of them, or an open file, into the session.

        Returns the offset after the last byte once all of it is durable. With `offset` the text goes
        in only if the session holds that many bytes: an append that is safe to repeat.
        progress(bytes) tells how many are durable as it goes on.
        """
        if isinstance(texts, (str, bytes, bytearray, memoryview)):
            texts = [texts]
        number = self._loop.call(self._start_append(offset))
        try:
            position = None
            for piece in _pieces(texts):
                self._loop.call(self._write(number, piece))
                if position is None:
                    position = self._loop.submit(self._position(number))
                elif position.done():
                    durable, failed = self._loop.value(position.result())
                    position = None
                    if progress is not None:
                        progress(durable)
                    if failed:
                        break
            return self._loop.call(self._end_append(number))
        finally:
            self._loop.drop(number)

    def generate(self, **params):
        """Starts generating; iterate over the result for the text.

        Parameters as GenerateParams of the schema: max_tokens, temperature, top_p, min_p, top_k,
        repetition_penalty, penalty_window, seed, stop (a list of texts).
        """
        return Generation(self._loop, self._number, _message(_schema.GenerateParams, params))

    def info(self):
        async def call():
            return _record(_checked(await self._capability().info()).info)

        return self._loop.call(call())

    def _capability(self):
        return _kept(self._loop, self._number)

    async def _start_append(self, offset):
        where = {"anywhere": None} if offset is None else {"offset": offset}
        return self._loop.keep((await self._capability().append(**where)).stream)

    async def _write(self, number, piece):
        await _kept(self._loop, number).write(text=piece)

    async def _position(self, number):
        position = await _kept(self._loop, number).position()
        return position.bytes, position.failed

    async def _end_append(self, number):
        return _checked(await _kept(self._loop, number).end()).offset


class Generation:
    """An iterator over generated text, while it is being made. The server waits for a slow reader.

    `result` is there after the last text. Leaving early: close(), or use it as a context manager.
    """

    def __init__(self, loop, session, params):
        self._loop = loop
        self._session = session
        self._arrived = queue.SimpleQueue()  # (text, tokens, acknowledge), or (None, outcome, None)
        self._acknowledge = None
        self.tokens = []
        self.result = None
        self._ended = False
        self._future = loop.submit(self._generate(params))
        self._future.add_done_callback(self._finish)

    def __iter__(self):
        return self

    def __next__(self):
        if self._ended:
            raise StopIteration
        self._take()
        text, value, self._acknowledge = self._arrived.get()
        if text is not None:
            self.tokens.extend(value)
            return text
        self._ended = True
        self.result = self._loop.value(value)
        raise StopIteration

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if not self._ended:
            self._future.cancel()

    def close(self):
        """Cancels the generation if it is still going on, and waits for its result."""
        if self._ended:
            return
        self._loop.submit(self._cancel())
        for _ in self:
            pass

    def _take(self):
        if self._acknowledge is not None:
            self._acknowledge()
            self._acknowledge = None

    def _finish(self, future):
        lost = (None, ConnectionLost("the client is closed"))
        self._arrived.put((None, lost if future.cancelled() else future.result(), None))

    async def _generate(self, params):
        sink = _Sink(self._loop.loop, self._arrived)
        session = _kept(self._loop, self._session)
        return _record(_checked(await session.generate(params=params, sink=sink)).result)

    async def _cancel(self):
        await _kept(self._loop, self._session).cancel()


class _Sink(_schema.TextSink.Server):
    """Hands chunks to the reading thread, and answers each when that asks for the next."""

    def __init__(self, loop, arrived):
        self._loop = loop
        self._arrived = arrived

    async def chunk(self, text, tokens, **_):
        taken = asyncio.Event()

        def acknowledge():
            try:
                self._loop.call_soon_threadsafe(taken.set)
            except RuntimeError:
                pass  # the client was closed meanwhile

        self._arrived.put((text, list(tokens), acknowledge))
        await taken.wait()

    async def done(self, **_):
        pass


def _kept(loop, number):
    if number not in loop.capabilities:
        raise _Declined(_schema.Error.new_message(code="invalid", message="the session is closed"))
    return loop.capabilities[number]


def _bytes(text):
    return text.encode() if isinstance(text, str) else bytes(text)


def _pieces(texts):
    read = getattr(texts, "read1", None)
    if read is not None:  # a binary file: what there is of it, not its lines
        texts = iter(lambda: read(_PIECE), b"")
    for text in texts:
        data = _bytes(text)
        for at in range(0, len(data), _PIECE):
            yield data[at : at + _PIECE]
