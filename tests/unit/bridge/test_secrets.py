import logging
import os
from pathlib import Path

import pytest

from incident_rollback.bridge.secrets import MAX_SECRET_BYTES, Secrets


def values_of(secrets: Secrets) -> list[str]:
    return [secret.get_secret_value() for secret in secrets.current()]


def mount(folder: Path, generation: str, **files: str) -> None:
    """Write files as the kubelet does: into a new folder, to which `..data` is then pointed."""
    data = folder / f"..{generation}"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path("..data") / name)
    fresh = folder / "..data_tmp"
    fresh.symlink_to(data.name)
    fresh.replace(folder / "..data")


CONTENTS = [
    pytest.param(b"one", ["one"], id="a secret"),
    pytest.param(b"one\n", ["one"], id="one line break at the end is not part of it"),
    pytest.param(b"one\r\n", ["one"], id="nor is the line break of Windows"),
    pytest.param(b"one\n\n", ["one\n"], id="a second line break is"),
    pytest.param(b" one ", [" one "], id="blanks are part of it"),
    pytest.param(b"", [], id="an empty file is no secret"),
    pytest.param(b"\n", [], id="nor is a line break"),
    pytest.param(b" \t", [], id="nor are blanks"),
    pytest.param(b"\xff\xfe", [], id="bytes that are not UTF-8 are left out"),
    pytest.param(b"x" * MAX_SECRET_BYTES + b"\n", ["x" * MAX_SECRET_BYTES], id="4 KiB"),
    pytest.param(b"x" * (MAX_SECRET_BYTES + 1), [], id="over 4 KiB is left out"),
    pytest.param(b"x" * MAX_SECRET_BYTES + b"\r\nmore", [], id="over 4 KiB is not cut"),
]


@pytest.mark.parametrize(("content", "expected"), CONTENTS)
def test_what_a_file_holds(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "current").write_bytes(content)

    secrets = Secrets(tmp_path)

    assert values_of(secrets) == expected
    assert secrets.are_loaded() is bool(expected)


@pytest.mark.parametrize(
    "folder",
    [pytest.param(None, id="no folder is set"), pytest.param(Path("/nowhere"), id="no such one")],
)
def test_without_a_folder_nothing_is_loaded(folder: Path | None) -> None:
    assert not Secrets(folder).are_loaded()


def test_folders_and_the_mounts_own_names_are_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "..stray").write_text("stray")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")

    assert not Secrets(tmp_path).are_loaded()


def test_they_have_the_names_of_their_files(tmp_path: Path) -> None:
    for name in ("current", "previous"):
        (tmp_path / name).write_text(f"the {name}")
    named = Secrets(tmp_path).named()
    told = {name: secret.get_secret_value() for name, secret in named.items()}
    assert told == {"current": "the current", "previous": "the previous"}


def test_a_rotated_mount_is_read_again(tmp_path: Path) -> None:
    mount(tmp_path, "1", current="old")
    secrets = Secrets(tmp_path)
    assert values_of(secrets) == ["old"]

    mount(tmp_path, "2", current="new", previous="old")

    assert values_of(secrets) == ["new", "old"]


def test_a_file_that_is_written_over_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "current"
    file.write_text("aaa")
    secrets = Secrets(tmp_path)
    assert values_of(secrets) == ["aaa"]

    file.write_text("bbb")
    os.utime(file, ns=(1, 1))

    assert values_of(secrets) == ["bbb"]


def test_a_removed_file_is_accepted_no_more(tmp_path: Path) -> None:
    for name in ("current", "previous"):
        (tmp_path / name).write_text(name)
    secrets = Secrets(tmp_path)
    assert values_of(secrets) == ["current", "previous"]

    (tmp_path / "previous").unlink()
    assert values_of(secrets) == ["current"]

    (tmp_path / "current").unlink()
    assert not secrets.are_loaded()


def test_unchanged_files_are_not_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "current").write_text("one")
    secrets = Secrets(tmp_path)

    for _ in range(3):
        secrets.current()

    assert [record.getMessage() for record in caplog.records] == [
        f"1 secret(s) read from {tmp_path}"
    ]


def test_a_secret_is_never_printed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "current").write_text("hush-hush")
    (tmp_path / "bad").write_bytes(b"hush-hush\xff")

    secrets = Secrets(tmp_path)

    assert "hush" not in f"{secrets.current()} {secrets.current()!r} {vars(secrets)}"
    assert "hush" not in caplog.text
    assert "bad left out" in caplog.text
