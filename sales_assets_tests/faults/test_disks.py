"""A full or read-only disk, made by mounting a small tmpfs: the day fails with the reason, and is repaired later."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sales_assets import settings as settings_module
from sales_assets.postgres.embedded import EmbeddedPostgres
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.faults.subprocess_targets import TargetProcess, contents, load_undisturbed
from sales_assets_tests.fixtures import Shop

FIRST, DAY, LAST = "2024-10-01", "2024-10-02", "2024-10-03"
Disk = Callable[[str], None]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Disk]]:
    """Yield a tmpfs and a function that remounts it with other options, such as size=1m or ro."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs takes root")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    yield folder, remount
    subprocess.run(["umount", "--lazy", folder], check=True)


def orders(day: str, number: int, name: str = "x" * 200) -> list[Order | str]:
    return [Order(f"{day}-{n}", day=day, item_name=name) for n in range(number)]


def test_a_raw_file_without_disk_space_fails_only_its_day(
    shop: Shop, small_disk: tuple[Path, Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remount = small_disk
    monkeypatch.setenv("RAW_FILES_URL", str(folder))
    settings_module.settings.cache_clear()
    for day in (FIRST, DAY, LAST):
        shop.reports.increment(day, orders(day, 3))
    shop.load(FIRST, LAST)
    before = shop.contents()
    # Separate loads, because a file stored while the large one fills the disk would fail too.
    for day in (FIRST, LAST):
        shop.reports.increment(day, orders(day, 4))
        shop.load(day)
    shop.reports.increment(DAY, orders(DAY, 2000))
    error = shop.fail_to_load(FIRST, LAST)
    assert "1 of 3 days failed" in error
    assert f"{DAY}: " in error
    assert "No space left on device" in error
    assert len(shop.sales(FIRST)) == len(shop.sales(LAST)) == 4
    assert [row for row in shop.contents() if row[0] == 20241002] == [row for row in before if row[0] == 20241002]
    assert list(folder.rglob("*.part")) == []
    remount("size=4m")
    shop.load(DAY)
    assert len(shop.sales(DAY)) == 2000


def test_a_day_fails_while_the_disk_of_raw_files_is_read_only(
    shop: Shop, small_disk: tuple[Path, Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, remount = small_disk
    monkeypatch.setenv("RAW_FILES_URL", str(folder))
    settings_module.settings.cache_clear()
    shop.reports.increment(FIRST, orders(FIRST, 1))
    shop.load(FIRST)
    shop.reports.increment(FIRST, orders(FIRST, 2))
    remount("ro")
    assert "Read-only file system" in shop.fail_to_load(FIRST)
    assert len(shop.sales(FIRST)) == 1
    remount("rw")
    shop.load(FIRST)
    assert len(shop.sales(FIRST)) == 2


def test_a_load_without_disk_space_for_postgresql_changes_nothing(
    small_disk: tuple[Path, Disk],
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PostgreSQL itself may stop. The mart is unchanged, and a load with enough disk space repairs the day."""
    folder, remount = small_disk
    remount("size=300m")
    monkeypatch.setenv("SALES_HOME", str(folder / "home"))
    monkeypatch.setenv("RAW_FILES_URL", str(tmp_path / "raw"))
    server = EmbeddedPostgres(folder / "home" / "postgres")
    try:
        reports.report([Order("r", day="2024-09-30")])
        reports.increment(FIRST, orders(FIRST, 3))
        load_undisturbed(os.environ, (FIRST, FIRST))
        before = contents(server.url("sales"))
        reports.increment(FIRST, orders(FIRST, 3000))
        ballast = folder / "ballast"
        with ballast.open("wb") as file:
            file.truncate(0)
            free = os.statvfs(folder)
            file.write(bytes(free.f_bavail * free.f_frsize - 512 * 1024))
        with TargetProcess(os.environ, days=(FIRST, FIRST)) as target_process:
            assert target_process.finish()
        assert target_process.failures
        ballast.unlink()
        server.ensure_running()
        assert contents(server.url("sales")) == before
        load_undisturbed(os.environ, (FIRST, FIRST))
        assert len(contents(server.url("sales"))[20241001]) == 3000
    finally:
        server.stop()
