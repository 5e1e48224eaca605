"""Schemathesis run against the service: requests generated from its OpenAPI, responses validated against it."""

import subprocess
import sys
from pathlib import Path

# No 5xx, and no status, content type or body that the OpenAPI does not document.
_CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def examine(url: str, folder: Path, *, examples: int) -> None:
    """Run schemathesis; fail with its report if it finds an error."""
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            str(program),
            "run",
            f"{url}/openapi.json",
            f"--max-examples={examples}",
            f"--checks={_CHECKS}",
            "--seed=20240620",
            "--generation-database=none",
            "--phases=examples,coverage,fuzzing",
            "--continue-on-failure",
            "--no-color",
            # /ready responds with 503 while any dependency is missing.
            "--exclude-path=/ready",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
