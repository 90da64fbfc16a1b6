"""Content encodings, both ways: gzip, deflate, and zstd where it is installed. The limit defuses bombs."""

from __future__ import annotations

import zlib

from slipway.errors import MalformedRequest, PayloadTooLarge, UnsupportedMedia

try:
    import zstandard
except ImportError:  # an extra; without it zstd is answered with 415 and never offered
    zstandard = None  # type: ignore[assignment]

COMPRESS_FROM_BYTES = 1024
"""Below this an answer fits one packet anyway."""
ZSTD_STEP_BYTES = 1024
"""So little is unpacked at a time that not even a bomb becomes large before it is noticed."""
MAX_ZSTD_FRAMES = 1000
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
_WINDOWS = {"gzip": 31, "deflate": 15}  # zlib's names for the two formats

SPOKEN = ("gzip", "deflate", "zstd") if zstandard is not None else ("gzip", "deflate")


def decode_body(body: bytes, encoding: str, *, max_bytes: int) -> bytes:
    """The body as it was before `encoding`. Raises UnsupportedMedia, MalformedRequest, PayloadTooLarge."""
    if encoding in ("identity", ""):
        return body
    if encoding not in SPOKEN:
        raise UnsupportedMedia(f"content-encoding {encoding!r} is not spoken here; spoken are {', '.join(SPOKEN)}")
    if encoding == "zstd":
        return _decode_zstd(body, max_bytes=max_bytes)
    decoder = zlib.decompressobj(wbits=_WINDOWS[encoding])
    try:
        plain: bytes = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest(f"the body is not {encoding}: {error}") from None
    _check_size(len(plain), max_bytes)
    if not decoder.eof:
        raise MalformedRequest(f"the {encoding} body ends too early")
    if decoder.unused_data:
        raise MalformedRequest(f"{len(decoder.unused_data)} bytes follow the end of the {encoding} body")
    return plain


def _decode_zstd(body: bytes, *, max_bytes: int) -> bytes:
    # Not by its stream reader, which takes a body that ends too early for a whole one.
    frames = zstandard.ZstdDecompressor(max_window_size=2**27)
    decoder = frames.decompressobj()
    plain, at, count = bytearray(), 0, 1
    try:
        while at < len(body):
            if decoder.eof:
                decoder = frames.decompressobj()  # a body may be several frames
                count += 1
                if count > MAX_ZSTD_FRAMES:
                    raise MalformedRequest(f"the zstd body is more than {MAX_ZSTD_FRAMES} frames")
            step = body[at : at + ZSTD_STEP_BYTES]
            plain += decoder.decompress(step)
            at += len(step) - len(decoder.unused_data)
            _check_size(len(plain), max_bytes)
    except zstandard.ZstdError as error:
        raise MalformedRequest(f"the body is not zstd: {error}") from None
    if not decoder.eof:
        raise MalformedRequest("the zstd body ends too early")
    return bytes(plain)


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PayloadTooLarge(f"the body is over {max_bytes} bytes when it is decompressed")


def choose_encoding(accepts: str) -> str:
    """The encoding to answer with, by an accept-encoding header (RFC 9110, 12.5.3); '' for none."""
    weights: dict[str, float] = {}
    for part in accepts.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    best, best_weight = "", 0.0
    for name in ("zstd", "gzip", "deflate"):
        weight_now = weights.get(name, weights.get("*", 0.0))
        if name in SPOKEN and weight_now > best_weight:
            best, best_weight = name, weight_now
    return best


def encode_body(body: bytes, encoding: str) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
    compressor = zlib.compressobj(GZIP_LEVEL, wbits=_WINDOWS[encoding])
    return compressor.compress(body) + compressor.flush()
