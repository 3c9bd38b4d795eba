"""Downloading the public files, and CIFAR-10 in its folder or archive."""

from __future__ import annotations

import dataclasses
import errno
import io
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_helpers import idx_files, idx_source, no_network, public, put, serve

from tombola.data import files, load
from tombola.data.cifar import CIFAR_10, CifarSource
from tombola.data.idx import FASHION_MNIST, MNIST
from tombola.errors import DataError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    return no_network(monkeypatch, tmp_path)


# --- downloads


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_missing_files_are_downloaded_and_the_rest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = idx_files()
    names = list(contents)
    put(tmp_path / "data" / "tiny", {names[0]: contents[names[0]]})
    asked = serve(monkeypatch, contents)
    data = idx_source(contents)()
    assert asked == [f"http://example.invalid/{name}" for name in names[1:]]
    assert parts(tmp_path) == sorted(names)
    assert data.fingerprint == idx_source(contents)().fingerprint
    assert len(asked) == 3


def test_files_come_through_the_real_opener_and_the_second_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    contents = idx_files()
    origin = put(tmp_path / "origin", contents)
    source = idx_source(contents, urls=((tmp_path / "gone").as_uri() + "/", origin.as_uri() + "/"))
    assert len(source(put(tmp_path / "here", {})).x_train) == 5
    assert parts(tmp_path / "here") == sorted(contents)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b"<html>"])
def test_a_wrong_download_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    contents = idx_files()
    last = list(contents)[-1]
    serve(monkeypatch, {**contents, last: damage(contents[last])})
    with pytest.raises(DataError, match=rf"tiny: {last} not found in .*what came has md5 .*not kept"):
        idx_source(contents)()
    assert parts(tmp_path) == sorted(set(contents) - {last})


class Breaking(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise TimeoutError("timed out")
        return super().read(10)


def test_a_broken_connection_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "open_url", lambda url, seconds: Breaking(bytes(99)))
    with pytest.raises(DataError, match=r"connection broke after 10 of .*timed out"):
        idx_source(idx_files())()
    assert parts(tmp_path) == []


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, idx_files())

    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        idx_source(idx_files())()
    assert parts(tmp_path) == []


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_without_network_the_error_names_files_place_and_way_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load(name)
    for part in (*idx_files(), str(tmp_path / "data" / name), "unreachable", "Put them", "--data-dir", "TOMBOLA_DATA"):
        assert part in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_an_unwritable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = idx_files()
    serve(monkeypatch, contents)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"tiny cannot be written to: Permission denied\. Change its rights"):
        idx_source(contents)()
    assert parts(tmp_path) == []


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import urllib.request

    monkeypatch.undo()
    done = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", lambda *_, **__: done.wait(5))
        with pytest.raises(TimeoutError, match="no answer within"):
            files.open_url("http://example.invalid/", 0.05)
    done.set()


def test_progress_is_shown_on_a_terminal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = idx_files()
    serve(monkeypatch, contents)
    for folder, terminal, quiet in (("a", False, False), ("b", True, True), ("c", True, False)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        idx_source(contents)(put(tmp_path / folder, {}), quiet)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("train-images" in shown.err) == (folder == "c")


def test_the_table_of_originals_is_complete() -> None:
    for source in (MNIST, FASHION_MNIST):
        assert [file.name for file in source.files] == list(idx_files())
        assert all(re.fullmatch("[0-9a-f]{32}", file.md5) for file in source.files)
    assert all(url.endswith("/") for source in (MNIST, FASHION_MNIST, CIFAR_10) for url in source.urls)  # type: ignore[attr-defined]
    assert CIFAR_10.archive.md5 == "c32a1d4ab5d03f1284b67883e8d87530"


# --- CIFAR-10


def cifar_batch(labels: list[int], seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


def cifar_source(archive: bytes = b"") -> CifarSource:
    return dataclasses.replace(CIFAR_10, archive=public("cifar-10-binary.tar.gz", archive), batch_bytes=2 * 3073)


def official() -> dict[str, bytes]:
    batches = {f"data_batch_{n}.bin": cifar_batch([n, n + 1], seed=n) for n in range(1, 6)}
    return {**batches, "test_batch.bin": cifar_batch([0, 9], seed=9)}


def tar(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, raw in {"readme.html": b"hello", **contents}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


def test_official_cifar_files_are_read_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "cifar-10-batches-bin", {**official(), "batches.meta.txt": b"airplane"})
    data = cifar_source()(tmp_path)
    assert data.y_train.tolist() == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    assert (data.y_test.tolist(), data.classes, data.input_shape) == ([0, 9], 10, (3, 32, 32))
    assert data.x_train[2].numpy().tobytes() == official()["data_batch_2.bin"][1:3073]
    assert capsys.readouterr() == ("", "")


def test_other_cifar_files_are_read_in_numeric_order_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = {"data_batch_10.bin": cifar_batch([3]), "data_batch_2.bin": cifar_batch([1, 2])}
    folder = put(tmp_path / "cifar-10-batches-bin", {**batches, "test_batch.bin": cifar_batch([5])})
    assert cifar_source()(tmp_path).y_train.tolist() == [1, 2, 3]
    line = f"using 2 of 5 training batches (3 images) from {folder}; not the official files, results are not comparable"
    assert capsys.readouterr() == ("", f"tombola: cifar-10: {line}\n")
    cifar_source()(tmp_path, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_five_batches_of_another_size_are_not_official(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "cifar-10-batches-bin", {**official(), "data_batch_3.bin": cifar_batch([1, 2, 3])})
    cifar_source()(tmp_path)
    assert "using 5 training batches (11 images)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_2.bin": b""}, "data_batch_2.bin has 0 bytes; expected a multiple of 3,073"),
        ({"data_batch_2.bin": cifar_batch([1])[:-1]}, "data_batch_2.bin has 3,072 bytes"),
        ({"test_batch.bin": cifar_batch([1]) + b"x"}, "test_batch.bin has 3,074 bytes"),
        ({"data_batch_1.bin": cifar_batch([1, 10])}, r"data_batch_1.bin: record 1 \(counted from 0\) has label 10"),
        ({"test_batch.bin": cifar_batch([255])}, "test_batch.bin: record 0 .*label 255"),
        ({"data_batch_one.bin": cifar_batch([1])}, "data_batch_one.bin has no number"),
        ({"test_batch.bin": None}, "holds data_batch_1.bin, .*expected test_batch.bin"),
        ({f"data_batch_{n}.bin": None for n in range(1, 6)}, "holds test_batch.bin; expected .*at least one"),
    ],
)
def test_wrong_cifar_files_are_named(
    tmp_path: Path, offline: list[str], changes: dict[str, bytes | None], message: str
) -> None:
    contents = {name: raw for name, raw in {**official(), **changes}.items() if raw is not None}
    put(tmp_path / "cifar-10-batches-bin", contents)
    with pytest.raises(DataError, match=message):
        cifar_source()(tmp_path)
    assert offline == []


def test_a_cifar_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", {})
    with pytest.raises(DataError, match=r"test_batch.bin cannot be read: Is a directory"):
        cifar_source()(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cifar-10-batches-bin").touch()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin cannot be read: Not a directory"):
        cifar_source()(tmp_path / "other")
    (tmp_path / "third" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "third" / "cifar-10-batches-bin" / "test_batch.bin").symlink_to("gone")
    with pytest.raises(DataError, match=r"test_batch.bin cannot be read: No such file"):
        cifar_source()(tmp_path / "third")


def test_the_cifar_archive_is_read_in_place_or_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tar(official())
    asked = serve(monkeypatch, {"cifar-10-binary.tar.gz": raw})
    source = cifar_source(raw)
    first, again = source(), source()
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert parts(tmp_path) == ["cifar-10-binary.tar.gz"]
    put(tmp_path / "folder" / "cifar-10-batches-bin", official())
    assert first.fingerprint == again.fingerprint == source(tmp_path / "folder").fingerprint
    assert capsys.readouterr() == ("", "")


def test_a_wrong_cifar_archive_is_an_error(tmp_path: Path, offline: list[str]) -> None:
    raw = tar(official())
    put(tmp_path, {"cifar-10-binary.tar.gz": raw[:-1]})
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz has .* truncated or altered"):
        cifar_source(raw)(tmp_path)
    for bad, message in ((b"no archive", "cannot be read"), (raw[:-300], "cannot be read"), (tar({}), "no batch file")):
        put(tmp_path, {"cifar-10-binary.tar.gz": bad})
        with pytest.raises(DataError, match=message):
            cifar_source(bad)(tmp_path)
    assert offline == []


def test_missing_cifar_files_are_named_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(DataError) as caught:
        load("cifar-10", tmp_path)
    for part in ("cifar-10-binary.tar.gz not found in", str(tmp_path), "unreachable", "Put it", "test_batch.bin"):
        assert part in str(caught.value)
