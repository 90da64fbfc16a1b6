"""Compiles the .proto files beside it to `descriptors.py`. Needs grpcio-tools:

    pip install grpcio-tools && python -m slipway.infer.protobuf.generate

Descriptors, not generated classes: classes made by protoc import only with a protobuf runtime at least as new as
protoc, and register themselves in the process-wide pool, where they clash with tritonclient's of the same names.
"""

from __future__ import annotations

import hashlib
import textwrap
from base64 import b85encode
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent


def sources() -> list[Path]:
    return sorted(FOLDER.glob("*.proto"))


def sources_digest() -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources())).hexdigest()


def main() -> None:
    from grpc_tools import protoc

    with TemporaryDirectory() as scratch:
        compiled = Path(scratch, "descriptors.bin")
        arguments = [f"-I{FOLDER}", f"--descriptor_set_out={compiled}", *(path.name for path in sources())]
        if protoc.main(["protoc", *arguments]) != 0:
            raise SystemExit("protoc failed")
        text = b85encode(compiled.read_bytes()).decode()
    lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(text, 110, break_on_hyphens=False))
    FOLDER.joinpath("descriptors.py").write_text(
        '"""Made by generate.py from the .proto files; do not edit."""\n\n'
        f'SOURCES_SHA256 = "{sources_digest()}"\n\n'
        f"FILES_BASE85 = (\n{lines}\n)\n"
    )


if __name__ == "__main__":
    main()
