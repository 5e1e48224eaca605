"""Unit tests: recognised by their fixtures, and unable to open a socket or start a process."""

import pytest

pytest_plugins = ["pytester"]
# The guard applies to the whole process, so it must be off in the tests that try it.
pytestmark = pytest.mark.external

TESTS = """
    import contextlib, os, socket, subprocess, sys, threading
    import psycopg, pytest

    go_on = threading.Event()
    def listen_later():
        go_on.wait(30)
        socket.create_server(("127.0.0.1", 0)).close()
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect("host=127.0.0.1 port=9")

    @pytest.fixture
    def server(): ...
    @pytest.fixture
    def warehouse(server): ...
    @pytest.fixture
    def listening():
        socket.create_server(("127.0.0.1", 0)).close()

    def test_plain(tmp_path): ...
    def test_with_a_server(warehouse):
        socket.create_server(("127.0.0.1", 0)).close()
    @pytest.mark.external
    def test_marked():
        subprocess.run([sys.executable, "-c", ""], check=True)
    @pytest.mark.external
    def test_leaves_a_thread():
        threading.Thread(target=listen_later, name="left").start()

    def test_next_to_the_thread():
        go_on.set()
        (left,) = [thread for thread in threading.enumerate() if thread.name == "left"]
        left.join(30)
    def test_thread():
        thread = threading.Thread(target=listen_later)
        thread.start()
        thread.join(30)
    def test_process():
        subprocess.run([sys.executable, "-c", ""])
    def test_fork():
        os.fork() or os._exit(0)
    def test_psycopg():
        psycopg.connect("host=127.0.0.1 port=9")
    def test_fixture(listening): ...
    def test_swallowed():
        with contextlib.suppress(Exception):
            socket.create_connection(("127.0.0.1", 9))
"""
PASS = ["test_plain", "test_with_a_server", "test_marked", "test_leaves_a_thread", "test_next_to_the_thread"]
FAIL = ["test_thread", "test_process", "test_fork", "test_psycopg", "test_fixture", "test_swallowed"]
UNIT = ["test_plain", "test_next_to_the_thread", *FAIL]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.HookRecorder:
    pytester.makeini("[pytest]\nmarkers =\n    external\n    unit\n")
    pytester.makepyfile(TESTS)
    return pytester.inline_run("-p", "sales_assets_tests.unit", "-p", "no:randomly", *arguments)


def test_tests_without_external_fixtures_are_unit_tests(pytester: pytest.Pytester) -> None:
    passed, skipped, failed = run(pytester, "-m", "unit").listoutcomes()
    assert not skipped
    assert sorted({report.nodeid.partition("::")[2] for report in [*passed, *failed]}) == sorted(UNIT)


def test_a_unit_test_that_opens_a_socket_or_starts_a_process_fails(pytester: pytest.Pytester) -> None:
    passed, _, failed = run(pytester).listoutcomes()
    assert [report.nodeid.partition("::")[2] for report in passed] == PASS
    assert {report.nodeid.partition("::")[2] for report in failed} == {*FAIL}
    assert all("in a unit test" in str(report.longrepr) for report in failed)
