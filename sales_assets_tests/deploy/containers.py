"""Run the services of compose.yaml as local processes, with their commands, environments and health checks.

Container features are mapped: each service name to a separate loopback address (with the original ports), volumes and
configuration files to folders, the image to this Python environment. PostgreSQL is an embedded server, RabbitMQ the
machine's.
"""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from sales_assets_tests.cli.processes import as_in_the_foreground
from sales_assets_tests.deploy.artefacts import HOME, Service, image_environment

# Far longer than a loaded machine needs.
_SECONDS = 240


class Topology:
    """The processes of some services; each is started once its dependencies are running."""

    def __init__(
        self,
        services: Mapping[str, Service],
        folder: Path,
        *,
        provided: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        """Prepare the topology without starting processes.

        Args:
            services: The services to start; their other dependencies are provided.
            folder: Folder for volumes, configuration and logs.
            provided: Text to replace in the environment, mapped to the addresses of provided services.
            environment: Variables set for all services in addition to their own.
        """
        self._services = services
        self._provided = dict(provided)
        self._folder = folder
        self._environment = dict(environment)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._checks: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
        self._not_before: dict[str, float] = {}
        self._healthy: set[str] = set()
        # All of 127.0.0.0/8 is loopback: each topology gets a network, and each service an address.
        network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._addresses = {name: f"{network}.{number}" for number, name in enumerate(services, start=1)}
        self.home = folder / "home"
        self.home.mkdir(parents=True)

    def url(self, service: str, port: int) -> str:
        return f"http://{self._addresses[service]}:{port}"

    def start(self) -> None:
        """Start all services in dependency order, and wait until each is healthy or has finished."""
        waiting = dict(self._services)
        deadline = time.monotonic() + _SECONDS
        while waiting or not all(map(self._is_healthy, self._processes)):
            for name, service in list(waiting.items()):
                if all(self._is_met(needed, condition) for needed, condition in service.needs.items()):
                    self._processes[name] = self._run(service)
                    del waiting[name]
            if time.monotonic() > deadline:
                self._fail(f"not healthy within {_SECONDS} s", {*self._services} - self._healthy)
            time.sleep(0.1)

    def _is_met(self, needed: str, condition: str) -> bool:
        if needed not in self._services:
            return True  # PostgreSQL and RabbitMQ
        return needed in self._processes and (condition == "service_started" or self._is_healthy(needed))

    def _is_healthy(self, name: str) -> bool:
        """Return whether a service passes its check, runs (if it has no check) or has succeeded (if it is a job)."""
        code = self._processes[name].poll()
        if code is not None:
            if code or not self._is_job(name):
                self._fail(f"exited with code {code}", [name])
            return True
        if name not in self._healthy and not self._is_job(name) and self._passes(self._services[name]):
            self._healthy.add(name)
        return name in self._healthy

    def _passes(self, service: Service) -> bool:
        """Return whether a service has passed its check, and start the next check if not. Checks run in parallel."""
        if service.health is None:
            return True
        now = time.monotonic()
        check, start_time = self._checks.get(service.name, (None, 0.0))
        if check is None:
            if now >= self._not_before.get(service.name, 0.0):
                self._checks[service.name] = (self._execute(service, service.health, "health.log"), now)
        elif check.poll() is not None:
            if check.returncode == 0:
                return True
            # Leave the CPU to starting services: most checks import Dagster or Celery, which takes seconds.
            self._not_before[service.name] = now + max(1.0, now - start_time)
            del self._checks[service.name]
        return False

    def _is_job(self, name: str) -> bool:
        return any(s.needs.get(name) == "service_completed_successfully" for s in self._services.values())

    def check_all(self) -> None:
        """Run all health checks again."""
        checks = {
            name: self._execute(service, service.health, "health.log")
            for name, service in self._services.items()
            if service.health is not None
        }
        failed = [name for name, check in checks.items() if check.wait() != 0]
        if failed:
            self._fail("not healthy any more", failed)

    def _run(self, service: Service) -> "subprocess.Popen[bytes]":
        for target, source in service.files.items():
            file = self._path(target)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.resolved(source.read_text(encoding="utf-8")), encoding="utf-8")
        return self._execute(service, service.argv, "log")

    def _execute(self, service: Service, words: Iterable[str], log: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{service.name}.{log}").open("wb") as output:
            return subprocess.Popen(
                self._mapped(service, words),
                env=self._environment_of(service), cwd=self.home, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=as_in_the_foreground,
            )  # fmt: skip

    def _mapped(self, service: Service, words: Iterable[str]) -> list[str]:
        text = "\0".join(words)
        for target in service.files:
            text = text.replace(target, str(self._path(target)))
        text = re.sub(r"\b(0\.0\.0\.0|127\.0\.0\.1)\b", self._addresses[service.name], text)
        return text.replace(HOME, str(self.home)).split("\0")

    def _environment_of(self, service: Service) -> dict[str, str]:
        temporary = self._folder / "tmp" / service.name
        temporary.mkdir(parents=True, exist_ok=True)
        image = {name: value.replace(HOME, str(self.home)) for name, value in image_environment().items()}
        own = {name: self.resolved(value) for name, value in service.environment.items()}
        own = {name: self._addresses[service.name] if value == "0.0.0.0" else value for name, value in own.items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # Celery's process titles overwrite the environment, which `processes` searches.
        machine = {"PATH": path, "HOME": str(self.home), "TMPDIR": str(temporary), "SPT_NOENV": "1"}
        return image | own | self._environment | machine

    def resolved(self, text: str) -> str:
        """Replace service names in a text by addresses, in URLs and in `host: name`."""
        for named, there in self._provided.items():
            text = text.replace(named, there)
        for name, address in self._addresses.items():
            text = re.sub(rf"(?<=//){name}(?=:\d)|(?<=host: ){name}$", address, text, flags=re.MULTILINE)
        return text

    def _path(self, target: str) -> Path:
        return self._folder / "files" / target.lstrip("/")

    def _fail(self, what: str, names: Iterable[str]) -> None:
        logs = [f.read_text(errors="replace")[-3000:] for n in names for f in sorted(self._folder.glob(f"{n}*.log"))]
        pytest.fail("\n\n".join([f"{', '.join(sorted(names))}: {what}", *logs]))

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self._folder.glob("*.log"))

    def stop(self) -> dict[str, int | None]:
        """Stop all services as `docker compose stop` does: dependents first, SIGTERM to the main process only.

        Returns the exit code of each service, None for a service that exceeded its grace period.
        """
        codes: dict[str, int | None] = {}
        left = {name for name, process in self._processes.items() if process.poll() is None}
        while left:
            leaves = {name for name in left if not any(name in self._services[other].needs for other in left)}
            for name in leaves:
                self._processes[name].send_signal(signal.SIGTERM)
            for name in leaves:
                try:
                    codes[name] = self._processes[name].wait(self._services[name].grace)
                except subprocess.TimeoutExpired:
                    codes[name] = None
            left -= leaves
        return codes

    def kill(self) -> None:
        """Kill the remaining processes with their children."""
        checks = [check for check, _ in self._checks.values() if check.poll() is None]
        for process in (*self._processes.values(), *checks):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def processes(self) -> list[str]:
        """Return the command lines of all processes with this SALES_HOME, without zombies."""
        found = []
        mark = f"SALES_HOME={self.home}\0".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes() + b"\0":
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        return [line for line in found if line]
