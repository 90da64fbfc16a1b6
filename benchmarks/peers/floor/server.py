"""The floor: the least that one Python event loop can do, a socket that answers the same bytes each time.

It parses nothing but the end of a request, so no HTTP server written for this loop can be faster.
"""

import asyncio
import os

import uvloop

ANSWER = (
    b'{"model_name":"iris","outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[0]},'
    b'{"name":"probabilities","datatype":"FP32","shape":[1,3],'
    b'"data":[0.98223168,0.017767988,3.3930479e-07]}]}'
)
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)


class Constant(asyncio.Protocol):
    """One request in flight a connection and requests smaller than a segment: a read is a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, _data: bytes) -> None:
        self.transport.write(RESPONSE)  # type: ignore[attr-defined]


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Constant, "127.0.0.1", int(os.environ["BENCH_HTTP_PORT"]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
