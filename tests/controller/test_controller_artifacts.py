"""Where a model comes from: an upload, a path, a URL, and what happens to it in the end."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from controller_stage import OWNER, SOMEBODY, begin_at, spec, stage

from slipway.controller import janitor
from slipway.errors import Conflict, DigestMismatch, Forbidden, InvalidSpec, NotFound
from slipway.spec.access import ANONYMOUS
from slipway.spec.resources import UploadFile
from slipway.spec.server import ServerConfig


def upload_of(path: str, data: bytes) -> UploadFile:
    return UploadFile(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


async def send(at, path: str, data: bytes) -> str:
    file = upload_of(path, data)
    artifact = await at.commands.declare_artifact([file], caller=OWNER)
    if artifact.missing:
        half = len(data) // 2
        await at.commands.append_blob(file.sha256, offset=0, chunk=data[:half])
        assert await at.commands.blob_offset(file.sha256) == half
        assert await at.commands.append_blob(file.sha256, offset=half, chunk=data[half:]) == len(data)
    return artifact.digest


def test_an_upload_is_what_runs_and_other_bytes_are_a_new_version(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            digest = await send(at, "iris.onnx", b"first")
            made = await at.commands.deploy(spec(model="./iris.onnx"), artifact=digest, caller=SOMEBODY)
            assert made.versions[0].digest == digest
            await at.settled("iris")
            assert Path(at.fake.versions["iris", "v1"].spec.path).read_bytes() == b"first"
            elsewhere = spec(model="/home/somebody/models/iris.onnx")
            again = await at.commands.deploy(elsewhere, artifact=digest, caller=SOMEBODY)
            assert (again.change, again.target) == ("updated", "v1"), "the same bytes are the same version"
            second = await send(at, "iris.onnx", b"second")
            changed = await at.commands.deploy(elsewhere, artifact=second, caller=SOMEBODY)
            assert (changed.change, changed.target) == ("new_version", "v2")
            assert any(digest in line for line in (await at.commands.history("iris"))[0].changes)

    asyncio.run(story())


def test_an_upload_that_is_not_whole_or_not_the_one_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            file = upload_of("iris.onnx", b"first")
            artifact = await at.commands.declare_artifact([file], caller=OWNER)
            with pytest.raises(Conflict, match="not complete"):
                await at.commands.deploy(spec(model="./iris.onnx"), artifact=artifact.digest, caller=SOMEBODY)
            with pytest.raises(NotFound):
                await at.commands.deploy(spec(model="./iris.onnx"), artifact=f"sha256:{'0' * 64}", caller=SOMEBODY)
            with pytest.raises(DigestMismatch):
                await at.commands.append_blob(file.sha256, offset=0, chunk=b"fours")
            digest = await send(at, "iris.onnx", b"first")
            with pytest.raises(DigestMismatch, match="pinned"):
                pinned = spec(model="./iris.onnx", digest=f"sha256:{'1' * 64}")
                await at.commands.deploy(pinned, artifact=digest, caller=SOMEBODY)
            assert await at.commands.deployments() == []

    asyncio.run(story())


def test_only_the_owner_has_the_server_read_its_disk(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"model")

    async def story() -> None:
        async with stage(begin_at(tmp_path / "data")) as at:
            with pytest.raises(Forbidden, match="path"):
                await at.commands.deploy(spec(model=str(model)), caller=SOMEBODY)
            with pytest.raises(InvalidSpec, match="relative"):
                await at.commands.deploy(spec(model="./model.onnx"), caller=OWNER)
            with pytest.raises(NotFound, match="missing"):
                await at.commands.deploy(spec(model=str(tmp_path / "missing.onnx")), caller=OWNER)
            made = await at.commands.deploy(spec(model=str(model)), caller=ANONYMOUS)
            assert made.versions[0].digest.startswith("sha256:")
            model.write_bytes(b"other")
            would = await at.commands.deploy(spec(model=str(model)), dry_run=True, caller=OWNER)
            assert would.change == "new_version"
            assert len(await at.commands.artifacts()) == 1
        open_config = ServerConfig(host="0.0.0.0")
        async with stage(begin_at(tmp_path / "other", config=open_config)) as at:
            with pytest.raises(Forbidden):
                await at.commands.deploy(spec(model=str(model)), caller=ANONYMOUS)

    asyncio.run(story())


class Site:
    """An HTTP server whose answers wait for `go`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.go = threading.Event()
        self.go.set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.go.wait(20)
                data = site.files.get(self.path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.go.set()
    made.server.shutdown()
    made.server.server_close()


def test_a_url_is_fetched_in_the_background(tmp_path: Path, site: Site) -> None:
    site.files["/iris.onnx"] = b"remote"
    site.go.clear()

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            made = await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            assert made.warnings and "pinned" in made.warnings[0]
            await at.until(lambda: at.controller.world.of("iris")[1].state == "fetching")
            found = await at.commands.deployment("iris")
            assert (found.state, found.versions[0].state) == ("deploying", "fetching")
            site.go.set()
            found = await at.settled("iris")
            assert found.versions[0].size_bytes == 6
            assert Path(at.fake.versions["iris", "v1"].spec.path).read_bytes() == b"remote"
            again = await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            assert again.change == "unchanged"
            kinds = await at.kinds("iris")
            assert kinds.index("version.fetching") < kinds.index("version.fetched") < kinds.index("version.loading")

    asyncio.run(story())


def test_what_cannot_be_fetched_fails_and_the_old_version_goes_on(tmp_path: Path, site: Site) -> None:
    site.files["/iris.onnx"] = b"remote"

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            await at.settled("iris")
            for wrong in (
                spec(model=f"{site.url}/gone.onnx"),
                spec(model=f"{site.url}/iris.onnx", digest=f"sha256:{'1' * 64}"),
            ):
                made = await at.commands.deploy(wrong, caller=SOMEBODY)
                number = int(made.target[1:])
                await at.until(lambda number=number: at.controller.world.of("iris")[number].state == "failed")
                found = await at.settled("iris")
                assert (found.live, found.target) == ("v1", "v1")
                assert f"{made.target} failed" in found.reason

    asyncio.run(story())


def test_what_is_tried_again_says_why(tmp_path: Path, site: Site) -> None:
    site.files["/iris.onnx"] = b"remote"
    site.go.clear()

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            await at.until(lambda: at.controller.world.of("iris")[1].state == "fetching")
            assert (await at.commands.deployment("iris")).reason == "v1 is fetching (0%)"
            version = at.controller.world.of("iris")[1]
            await at.controller.fetcher._say(version, "the site refuses")
            await at.until(lambda: at.controller.world.of("iris")[1].error != "")
            said = (await at.commands.deployment("iris")).reason
            assert said == "v1 is fetching (0%), and is tried again: the site refuses"
            site.go.set()
            assert (await at.settled("iris")).reason == ""

    asyncio.run(story())


def test_deleted_while_it_is_fetched(tmp_path: Path, site: Site) -> None:
    site.files["/iris.onnx"] = b"remote"
    site.go.clear()

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            await at.until(lambda: at.controller.world.of("iris")[1].state == "fetching")
            await at.commands.delete("iris", caller=OWNER)
            await at.until(lambda: not at.controller.world.deployments)
            site.go.set()
            await at.until(lambda: not at.controller.fetcher._running)
            assert await at.commands.deployments() == []

    asyncio.run(story())


def test_a_fetch_that_a_crash_cut_off_is_taken_up_again(tmp_path: Path, site: Site) -> None:
    site.files["/iris.onnx"] = b"remote"
    site.go.clear()

    async def story() -> None:
        begin = begin_at(tmp_path)
        async with stage(begin) as at:
            await at.commands.deploy(spec(model=f"{site.url}/iris.onnx"), caller=SOMEBODY)
            await at.until(lambda: at.controller.world.of("iris")[1].state == "fetching")
            await at.crash()
        site.go.set()
        async with stage(begin) as at:
            assert (await at.settled("iris")).live == "v1"

    asyncio.run(story())


def test_files_lie_beside_the_model(tmp_path: Path, site: Site) -> None:
    site.files["/labels.txt"] = b"setosa"
    vocabulary = tmp_path / "vocabulary.json"
    vocabulary.write_bytes(b"{}")

    async def story() -> None:
        async with stage(begin_at(tmp_path / "data")) as at:
            files = {"labels.txt": f"{site.url}/labels.txt", "words.json": str(vocabulary)}
            await at.commands.deploy(spec(files=files), caller=OWNER)
            await at.settled("iris")
            folder = Path(at.fake.versions["iris", "v1"].spec.environment["SLIPWAY_FILES"])
            assert (folder / "labels.txt").read_bytes() == b"setosa"
            assert (folder / "words.json").read_bytes() == b"{}"
            assert (await at.commands.deploy(spec(files=files), caller=OWNER)).change == "unchanged"
            vocabulary.write_bytes(b"[]")
            assert (await at.commands.deploy(spec(files=files), caller=OWNER)).target == "v2"
            with pytest.raises(Forbidden):
                await at.commands.deploy(spec("other", files=files), caller=SOMEBODY)

    asyncio.run(story())


def test_artifacts_go_when_no_version_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            first = await send(at, "iris.onnx", b"first")
            second = await send(at, "iris.onnx", b"second")
            await at.commands.deploy(spec(model="./iris.onnx"), artifact=first, caller=SOMEBODY)
            await at.settled("iris")
            later = at.controller.janitor._wall() + 10 * 86_400
            monkeypatch.setattr(at.controller.janitor, "_wall", lambda: later)
            assert await at.controller.janitor.clean() > 0
            assert [one.digest for one in await at.commands.artifacts()] == [first]
            await at.commands.delete("iris", caller=OWNER)
            await at.until(lambda: not at.controller.world.deployments)
            await at.controller.janitor.clean()
            assert await at.commands.artifacts() == []
            assert second != first

    asyncio.run(story())


def test_a_rollback_whose_artifact_is_gone_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            digests = [await send(at, "iris.onnx", data) for data in (b"first", b"second")]
            for digest in digests:
                await at.commands.deploy(spec(model="./iris.onnx"), artifact=digest, caller=SOMEBODY)
                await at.settled("iris")
            await at.until(lambda: at.fake.live == {"iris": "v2"} and len(at.fake.versions) == 1)
            at.controller.specs.artifacts.collect({digests[1]}, now=at.controller.janitor._wall() + 10 * 86_400)
            with pytest.raises(Conflict, match="gone"):
                await at.commands.rollback("iris", "v1", caller=OWNER)

    asyncio.run(story())


def test_history_is_bounded_and_numbers_are_never_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "KEEP_VERSIONS", 2)
    monkeypatch.setattr(janitor, "KEEP_REVISIONS", 4)

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(), caller=OWNER)
            await at.settled("iris")
            at.fake.fail("iris", "v6", "it is broken")
            for rows in range(1, 6):
                await at.commands.deploy(spec(queue={"rows": rows}), caller=OWNER)
                await at.settled("iris")
            await at.until(lambda: at.fake.live == {"iris": "v5"} and len(at.fake.versions) == 1)
            await at.until(lambda: at.controller.world.of("iris")[6].state == "failed")
            await at.controller.janitor.clean()
            assert [one.version for one in await at.commands.versions("iris")] == ["v6", "v5", "v4"]
            assert [one.revision for one in await at.commands.history("iris")] == [6, 5, 4, 3]
            assert (await at.commands.deploy(spec(queue={"rows": 9}), caller=OWNER)).target == "v7"

    asyncio.run(story())
