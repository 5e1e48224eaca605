"""Every command in the documentation is executed by a test, literally where possible.

A new command in README.md or below docs/ fails `test_every_documented_command_has_a_test` until it is added to one of
the three tables below. CI runs `make check`, which includes the steps of `make install`, `lint` and `test`.
"""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import typer

from sales_assets.cli import app
from sales_assets.postgres.embedded import binary
from sales_assets.simulators.report_api.app import ReportApi
from sales_assets_tests.builders import Order, ReportFolderBuilder
from sales_assets_tests.cli.processes import Command, free_port
from sales_assets_tests.conftest import KEY
from sales_assets_tests.services.partner_orders import test_guide

TESTS = Path(__file__).resolve().parent.parent
PROJECT = TESTS.parent
SECONDS = 180

# Programs that start a command. A code span that starts with another word is a value, a path or a fragment.
PROGRAMS = {
    *("sales-assets", "make", "celery", "dagster", "dagster-webserver", "dagster-daemon", "dg", "psql", "eval"),
    *("manage.py", "uvx", "uv", "pip", "apt-get", "docker", "curl", "nginx", "caddy"),
}
_SHELL = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")

_CORRECTED = Order("x", day="2024-10-02").line(9, statuses=True)

# Commands for a running platform, in an order in which each has an effect: the documented command (and its shorter
# mentions), the command to execute if it differs, and the expected output.
OPERATOR: list[tuple[tuple[str, ...], str, str]] = [
    (("sales-assets migrate",), "", "the warehouse is at revision"),
    (("migrate --list",), "sales-assets migrate --list", "0004  "),
    (
        ('psql "$(sales-assets warehouse url)" -f sql/roles.sql',),
        f'psql "$(sales-assets warehouse url)" -v ON_ERROR_STOP=1 -f {PROJECT}/sql/roles.sql',
        "^GRANT$",
    ),
    (("sales-assets --version",), "", r"^sales-assets \d+\.\d+\.\d+"),
    (
        ("sales-assets load --report --from 2024-09-08 --to 2024-10-02",),
        "",
        r"rows in quarantine +│ 3 ",
    ),
    (
        ("sales-assets load --from ... --to ...", "sales-assets load", "sales-assets load --from 2024-10-02"),
        "sales-assets load --from 2024-09-28 --to 2024-09-29",
        r"of them without increment +│ 2 ",
    ),
    (
        ("sales-assets why 2024-10-02", "sales-assets why D", "sales-assets why DAY"),
        "sales-assets why 2024-10-02",
        "selected",
    ),
    (
        ("sales-assets export --from 2024-09-08 --to 2024-10-02 sales.parquet", "sales-assets export"),
        "",
        r"sales.parquet: [1-9]\d* rows, 2024-09-08 to 2024-10-02",
    ),
    (("sales-assets warehouse url",), "", "^postgresql://"),
    (
        ("sales-assets backup /backups/2024-10-03",),
        "sales-assets backup backup",
        r"rows in 2 databases, [1-9]\d* raw files",
    ),
    (
        ("SALES_HOME=~/restored sales-assets restore /backups/2024-10-03",),
        (
            "export SALES_ENV_FILE=/dev/null SALES_HOME=~/restored; sales-assets restore backup && "
            "sales-assets why 2024-10-02 && sales-assets warehouse stop"
        ),
        r"(?s)restored the backup of .*selected.*embedded server was stopped",
    ),
    (("sales-assets warehouse upgrade",), "", "nothing to upgrade"),
    (("sales-assets report sales.html",), "", r"sales.html: [1-9]\d* rows, 2024-09-30 to 2024-10-02"),
    (
        ("sales-assets report --from 2024-09-08 --to 2024-10-02 sales.html",),
        "sales-assets report --force --from 2024-09-08 --to 2024-10-02 sales.html",
        r"sales.html: [1-9]\d* rows, 2024-09-08 to 2024-10-02",
    ),
    (
        ("sales-assets quarantine list", "quarantine list", "sales-assets quarantine"),
        "sales-assets quarantine list",
        "bad one",
    ),
    (("quarantine list --all",), "sales-assets quarantine list --all", "bad three"),
    (("sales-assets quarantine list --day D",), "sales-assets quarantine list --day 2024-10-02", "bad two"),
    (
        (
            "quarantine replay 17 --line '<the corrected line>'",
            "replay 17 --line '1,ab12...,2024-10-02T00:00:00,...'",
        ),
        f"sales-assets quarantine replay 1 --line '{Order('late').line(9, statuses=True)}'",
        "1: corrected",
    ),
    (("replay 18 --discard",), "sales-assets quarantine replay 2 --discard", "2: discarded"),
    (
        ("quarantine list --json > bad.jsonl", "quarantine list --json"),
        "sales-assets quarantine list --json > bad.jsonl; cat bad.jsonl",
        '"line_text": "bad three"',
    ),
    (
        ("quarantine replay --file bad.jsonl",),
        f"sed -i 's/bad three/{_CORRECTED}/' bad.jsonl; sales-assets quarantine replay --file bad.jsonl",
        "3: corrected",
    ),
    (
        ("quarantine reopen 18", "sales-assets quarantine reopen"),
        "sales-assets quarantine reopen 2; sales-assets quarantine replay 2 --discard",
        "2: open",
    ),
    (
        ("sales-assets users add anna", "sales-assets users add NAME", "sales-assets users add", "sales-assets users"),
        "echo 'a long password' | sales-assets users add anna",
        "anna: added",
    ),
    (("sales-assets users list",), "", "^anna$"),
    (("sales-assets users remove anna",), "", "anna: removed"),
    (
        ('psql "$(sales-assets warehouse url)"',),
        """psql "$(sales-assets warehouse url)" -Atc 'SELECT sum(amount) FROM mart.f_sales'""",
        "^1000.00$",
    ),
    (
        ("sales-assets orders map FILE", "sales-assets orders map", "orders map"),
        "sales-assets orders map mapping.csv",
        "1 mapped",
    ),
    (("sales-assets orders waiting",), "", "no waiting lines"),
    (("sales-assets doctor",), "sales-assets doctor || true", "report API: .* answers"),
    (
        ("sales-assets env --format dotenv >> .env",),
        "sales-assets env --format dotenv >> .env; cat .env",
        "^DAGSTER_HOME=",
    ),
    (
        ("sales-assets dagster-yaml", "sales-assets dagster-yaml kubernetes"),
        "sales-assets dagster-yaml kubernetes",
        "class: KubernetesRunLauncher",
    ),
    (
        ("sales-assets dagster-yaml celery", 'sales-assets dagster-yaml celery > "$DAGSTER_HOME/dagster.yaml"'),
        'DAGSTER_HOME=.; sales-assets dagster-yaml celery > "$DAGSTER_HOME/dagster.yaml"; cat dagster.yaml',
        "^run_launcher:",
    ),
    (
        ("sales-assets suppressions import stop.csv", "suppressions import"),
        "printf 'phone\\n79997772211\\n' > stop.csv; sales-assets suppressions import stop.csv",
        "1 phones; 1 were not suppressed before",
    ),
    (
        ("sales-assets suppressions export all.csv", "suppressions export"),
        "sales-assets suppressions export all.csv",
        "1 phones",
    ),
    (("sales-assets suppressions import all.csv",), "", "1 phones; 0 were not suppressed before"),
    (("sales-assets suppressions remove 79997772211",), "", "^removed"),
    (
        ("sales-assets forget --customer 51", "sales-assets forget"),
        "SALES_ERASURE_SECRET='the key of the test' sales-assets forget --customer 51",
        "names: 1",
    ),
    (
        ("sales-assets forget --phone 79997772211",),
        "SALES_ERASURE_SECRET='the key of the test' sales-assets forget --phone 79997772211",
        "nothing to erase",
    ),
    (("sales-assets migrate --to 0003", "migrate --to 0003"), "sales-assets migrate --to 0003", "to 0003"),
]

# Long-running commands, by the test that executes them.
_HERE = "cli/test_documented.py::"
_SERVICES = "cli/test_api.py::"
_DEMO = "cli/test_demo.py::"
_CELERY = "services/mailings/test_worker_faults.py::test_beat_and_worker_send_a_mailing_without_personal_data_in_logs"
TESTED_ELSEWHERE = {
    "defs/test_reader_contract.py::test_contract_file_equals_the_command_output": [
        "sales-assets contract odcs > sales_mart.odcs.yaml",
        "sales-assets contract dbt > models/sources.yml",
        "sales-assets contract dbt",
    ],
    "defs/test_reader_contract.py::test_mart_satisfies_the_contract_and_a_changed_mart_violates_it": [
        "export DATACONTRACT_POSTGRES_HOST=db.example DATACONTRACT_POSTGRES_DATABASE=shop",
        "export DATACONTRACT_POSTGRES_USERNAME=analyst DATACONTRACT_POSTGRES_PASSWORD=...",
        "datacontract test docs/data-contracts/sales_mart.odcs.yaml --checks properties,quality",
    ],
    "defs/test_reader_contract.py::test_the_example_project_builds_a_model_on_the_mart": [
        "export PGHOST=localhost PGUSER=analyst PGPASSWORD=... PGDATABASE=sales",
        "dbt build --project-dir examples/dbt --profiles-dir examples/dbt",
    ],
    "postgres/embedded/test_upgrade.py::test_upgrade_command_uses_the_programs_of_another_release": [
        "sales-assets warehouse upgrade --programs /usr/lib/postgresql/17/bin"
    ],
    "cli/test_alerts.py::test_each_receiver_gets_a_test_message": ["sales-assets alerts test"],
    "faults/test_ui_up.py::test_failed_load_is_reported_by_mail": ["sales-assets alerts list"],
    "cli/test_init.py::test_five_answers_become_a_file_that_the_settings_read": ["sales-assets init"],
    "cli/test_init.py::test_every_setting_is_a_comment_with_its_default": ["sales-assets init --yes"],
    "cli/test_cli.py::test_a_shell_completes_commands_and_options": ["sales-assets --install-completion"],
    "lake/test_assets.py::test_lake_url_command_prints_a_snippet_per_engine": [
        "sales-assets lake url",
        "sales-assets lake url --engine duckdb",
    ],
    f"{_HERE}test_dagsters_own_commands_share_the_instance": [
        'eval "$(sales-assets env)"',
        "sales-assets env",
        "dagster-webserver --read-only -w workspace.yaml",
        "dagster run list",
        "dagster asset materialize",
        *("dg launch", "dg list defs", "dg check defs"),
        "dagster asset materialize -m sales_assets.definitions --select 'key:\"mart/d_*\"'",
        "dg launch --assets 'key:\"mart/f_sales\"' --partition 2024-10-02",
        *("dagster dev -w workspace.yaml", "dagster dev", "dg dev"),
    ],
    "deploy/test_daemon.py::test_a_second_daemon_stands_by_and_takes_over": [
        *("sales-assets daemon", "sales-assets daemon --workspace workspace.yaml", "dagster-daemon run"),
    ],
    f"{_HERE}test_the_simulator_of_the_sender": ["sales-assets sender-api"],
    f"{_HERE}test_make_knows_the_target": [
        *("make bench", "make bench-large", "make torture", "make test", "make check", "make install"),
        *("make docs", "make docs-serve", "make screenshots"),
        *("make help", "make lint", "make format", "make lock", "make unit", "make coverage"),
        "make bench BENCH_ARGS='--only \"dlt + dbt\"'",
        *("make mutants", "make mutants MUTANTS_ARGS=sales_assets/pipeline/sums.py"),
        'make mutants MUTANTS_ARGS="--sample 40 sales_assets/pipeline/load.py"',
        'make mutants MUTANTS_ARGS="--tests sales_assets_tests/mart/test_f_sales.py sales_assets/pipeline/publish.py"',
        *('make mutants MUTANTS_ARGS="--unit sales_assets/pipeline"', "make mutants MUTANTS_ARGS=--report"),
    ],
    f"{_DEMO}test_demo_with_ui_and_services_ends_completely_when_its_terminal_closes": ["make demo"],
    f"{_DEMO}test_the_demo_once_without_a_broker_shows_sales_and_leaves_nothing_running": [
        "make demo DEMO_ARGS=--once"
    ],
    "deploy/test_distributed_runs.py::test_four_workers_load_what_one_process_loads": [
        "sales-assets backfill --from 2024-09-08 --to 2024-10-02"
    ],
    "cli/test_dev.py::test_dev_ends_what_it_has_started_before_it_is_ready": ["sales-assets dev"],
    "cli/test_metrics.py::test_metrics_are_served_until_the_end": ["sales-assets metrics"],
    "cli/test_api_workers.py::test_processes_share_port_and_metrics_and_are_replaced": ["sales-assets api --workers 4"],
    f"{_SERVICES}test_an_order_through_the_commands": [
        "sales-assets partner-api",
        "sales-assets api",
        "PARTNERAPI_URL=http://127.0.0.1:8081 sales-assets api",
    ],
    f"{_SERVICES}test_parts_in_a_separate_process_serve_no_requests": [
        "sales-assets api --part relay",
        "sales-assets api --part http",
        "api --part http",
        "api --part relay",
    ],
    "cli/test_simulators.py::test_a_folder_is_served_until_stopped": [
        *("sales-assets report-api --data DIR", "sales-assets report-api"),
    ],
    "cli/test_quick_start.py::test_the_quick_start_sends_a_message": [
        "export SENDER_URL=http://127.0.0.1:8082",
        (
            "curl http://127.0.0.1:8000/api/v1/clients/ --json"
            """ '{"phone":"78218173218","operator_code":"123","timezone":"UTC"}'"""
        ),
        (
            "curl http://127.0.0.1:8000/api/v1/mailings/ --json"
            """ '{"start_time":"2022-12-02","text":"hello","end_time":"2128-11-20"}'"""
        ),
        "curl http://127.0.0.1:8000/api/v1/mailings/",
    ],
    "services/partner_orders/test_guide.py::test_guide_shows_the_actual_responses": [
        command for command, _ in test_guide.examples()
    ],
    "services/http/test_reverse_proxy.py::test_the_admin_page_works_behind_the_example": [
        "SALES_TRUSTED_PROXIES=127.0.0.1 sales-assets api"
    ],
    "cli/test_failing.py::test_a_bug": ["sales-assets --debug ..."],
    "cli/test_warehouse.py::test_the_embedded_server_outlives_the_command_that_started_it": [
        "sales-assets warehouse stop"
    ],
    "deploy/test_topology.py::test_compose_services_load_a_day_and_send_a_mailing": [
        *("sales-assets dagster-yaml", "sales-assets dagster-yaml kubernetes > deploy/kubernetes/dagster.yaml"),
    ],
    "deploy/test_compose.py::test_the_commands_of_the_guide_make_a_configuration_that_is_complete": [
        (
            "for name in POSTGRES_PASSWORD RABBITMQ_PASSWORD GRAFANA_PASSWORD;"
            ' do echo "$name=$(openssl rand -hex 24)"; done > .env'
        ),
        'echo "REPORT_API_URL=https://reports.example.com" >> .env',
        'echo "REPORT_API_KEY=..." >> .env',
        "docker compose --profile core --profile services --profile monitoring up --detach --build --wait",
    ],
    _CELERY: [
        *("celery -A ... worker", "celery -A ... beat"),
        "celery -A sales_assets.services.mailings.celery_app worker -P threads",
        "celery -A sales_assets.services.mailings.celery_app beat",
    ],
}

# Commands that no test runs, with the reason.
NOT_OURS = {
    "apt-get install rabbitmq-server": "installs on the machine; .ci/run does it",
    "docker run -d -p 5672:5672 rabbitmq:4": "needs Docker and the internet",
    "pip install '.[lake]'": "needs a package index; the development extra has the same packages",
    "pip install '.[alerts]'": "needs a package index; the development extra has the same packages",
    "pip install '.[reports]'": "needs a package index; the development extra has the same packages",
    "pip install '.[s3]'": "needs a package index; the development extra has the same packages",
    "pip install '.[gcs]'": "needs a package index",
    "pip install '.[azure]'": "needs a package index",
    "TEST_RAW_FILES=s3 make test": "it runs this test",
    "sudo apt-get install nginx apache2-utils": "installs on the machine; .ci/run does it",
    "sudo htpasswd -c /etc/nginx/sales_assets.htpasswd the-shop": "changes the machine; the proxy's test does the same",
    "sudo cp docs/guides/nginx.conf /etc/nginx/conf.d/sales_assets.conf": "changes the machine",
    "sudo nginx -t && sudo systemctl reload nginx": "changes the machine; the proxy's test does the same",
    **dict.fromkeys(
        (
            "sudo cp deploy/systemd/sysusers.conf /etc/sysusers.d/sales_assets.conf && sudo systemd-sysusers",
            "sudo cp -r deploy/systemd/sales-assets* /etc/systemd/system/ && sudo systemctl daemon-reload",
            "sudo install -d -m 0755 /etc/sales_assets && sudo cp deploy/systemd/workspace.yaml /etc/sales_assets/",
            "sudo install -m 0600 settings.env secrets.env /etc/sales_assets/",
            (
                "sudo systemctl enable --now sales-assets.target sales-assets-migrate sales-assets-code-server"
                " sales-assets-daemon"
            ),
            "sudo systemctl enable --now sales-assets-run-worker@1 sales-assets-run-worker@2",
        ),
        "changes the machine; deploy/test_systemd.py compares names and files",
    ),
    **dict.fromkeys(
        (
            "kubectl create namespace sales",
            "kubectl --namespace sales create secret generic sales-assets --from-env-file=secrets.env",
            "kubectl apply --kustomize deploy/kubernetes",
        ),
        "needs a cluster; deploy/test_kubernetes.py checks the manifests",
    ),
    "uvx pip-audit -r requirements.lock": "needs the internet",
    "pip install '.[openlineage]'": "installs; sales_assets_tests/bench/peers has a lock file of these packages",
    "manage.py makemigrations": "the model project's, in a comparison",
    "manage.py migrate": "the model project's, in a comparison",
    "manage.py runserver": "the model project's, in a comparison",
    "celery -A solution_factory.celery worker --loglevel=info -P eventlet": "the model project's, in a comparison",
    "celery -A solution_factory.celery beat --loglevel=info": "the model project's, in a comparison",
}


def _is_command(words: list[str]) -> bool:
    """Return whether the words start with a program, or with a subcommand of sales-assets and one of its arguments."""
    first, second = words[:2]
    top = getattr(typer.main.get_command(app), "commands", {})
    nested = {name: getattr(command, "commands", {}).keys() for name, command in top.items()}
    ours = {*nested, *(name for names in nested.values() for name in names)}
    return first in PROGRAMS or (
        first in ours and (second.startswith("-") or second.isdigit() or second in nested.get(first, ()))
    )


def commands_in(text: str) -> Iterator[str]:
    """Yield the commands of a page: lines of shell blocks, and code spans that are commands."""
    for block in _SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.sub(r"(^|\s+)#\s.*", "", line).strip():
                yield command
    for span in _SPAN.findall(_FENCED.sub("", text)):
        words = [word for word in span.split() if not re.match(r"[A-Z_]+=", word)]
        if len(words) > 1 and _is_command(words):
            yield " ".join(span.split())


def documented() -> dict[str, str]:
    """Return {command: page} of all pages."""
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    return {command: page.name for page in pages for command in commands_in(page.read_text(encoding="utf-8"))}


TESTED = {
    *(command for commands, _, _ in OPERATOR for command in commands),
    *(command for commands in TESTED_ELSEWHERE.values() for command in commands),
    *NOT_OURS,
}


def test_every_documented_command_has_a_test() -> None:
    assert {command: page for command, page in documented().items() if command not in TESTED} == {}


def test_commands_are_found_in_a_page() -> None:
    """Test of `commands_in`: a command in a shell block, in a sentence, on two lines, and after a variable."""
    page = (
        "Run `sales-assets nonsense --now`, or\n`A=1 make nonsense`; not `mart.f_sales` or `make`.\n"
        "```sh\nsales-assets \\\n  load   # comment\n```\n```\nmake no command\n```\n`quarantine list\n--all`"
    )
    assert list(commands_in(page)) == [
        "sales-assets    load",
        "sales-assets nonsense --now",
        "A=1 make nonsense",
        "quarantine list --all",
    ]


def test_every_test_named_in_the_tables_exists() -> None:
    missing = []
    for place in TESTED_ELSEWHERE:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        if not any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree)):
            missing.append(place)
    assert missing == []


@pytest.mark.parametrize("command", TESTED_ELSEWHERE[f"{_HERE}test_make_knows_the_target"])
def test_make_knows_the_target(command: str) -> None:
    words = shlex.split(command)
    done = subprocess.run(
        [*words, "--dry-run", "PYTHON=python3"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for variable in words[2:]:
        _, _, value = variable.partition("=")
        assert value in done.stdout, "the recipe does not pass it on"


class Shell:
    """A shell in the folder of a platform's `.env` file, with the commands of this environment on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = [str(Path(sys.executable).parent), os.environ["PATH"], str(binary("psql").parent)]
        self.environment = os.environ | {
            "PATH": os.pathsep.join(programs),
            "HOME": str(folder),
            "VIRTUAL_ENV": str(Path(sys.executable).parent.parent),
        }

    def __call__(self, line: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line], cwd=cwd or self.folder, env=self.environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip

    def start(self, line: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", line], cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


@pytest.fixture
def shell(
    command: Command,
    reports: ReportFolderBuilder,
    report_api: ReportApi,
    new_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    """A platform configured only by a `.env` file, for a shop with two days and three rejected rows."""
    reports.report([Order("r", day="2024-09-30")])
    reports.increment("2024-10-01", [Order("a"), "bad one"])
    reports.increment("2024-10-02", [Order("b", day="2024-10-02"), "bad two", "bad three"])
    folder = command.outside[0]
    settings = {
        "SALES_HOME": os.environ["SALES_HOME"],
        "WAREHOUSE_URL": new_database(),
        "DAGSTER_STORAGE_URL": new_database("template1"),
        "REPORT_API_URL": os.environ["REPORT_API_URL"],
        "REPORT_API_KEY": KEY,
        "SALES_FIRST_DAY": "2024-09-01",
    }
    for name in settings:
        monkeypatch.delenv(name, raising=False)
    (folder / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()), encoding="utf-8")
    (folder / "workspace.yaml").write_bytes((PROJECT / "workspace.yaml").read_bytes())
    (folder / "mapping.csv").write_text("kind,theirs,ours\nitem,58,3\n", encoding="utf-8")
    return Shell(folder)


@pytest.mark.timeout(900)
def test_operator_commands_work_in_sequence(shell: Shell) -> None:
    """Run the commands as documented, one after another: each uses the results of the previous ones."""
    for (command, *_), typed, printed in OPERATOR:
        done = shell(typed or command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert re.search(printed, done.stdout, re.MULTILINE), (command, done.stdout)
        assert "Traceback" not in done.stderr


RUNS = "{ runsOrError(limit: 50) { ... on Runs { results { runId status jobName } } } }"


def runs_shown(url: str) -> list[tuple[str, str]]:
    response = requests.post(f"{url}/graphql", json={"query": RUNS}, timeout=60).json()
    return [(run["jobName"], run["status"]) for run in response["data"]["runsOrError"]["results"]]


def wait_for_http(url: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            if requests.get(f"{url}/server_info", timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.1)
    raise AssertionError("the UI does not answer")


def ended(process: "subprocess.Popen[str]") -> str:
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


@pytest.mark.timeout(900)
def test_dagsters_own_commands_share_the_instance(shell: Shell, tmp_path: Path) -> None:
    """Each of Dagster's UIs lists the runs of `load` and the runs started by Dagster's own commands."""
    environment = shell("sales-assets env")
    assert environment.returncode == 0, environment.stderr
    assert not re.search(rf"{KEY}|postgresql:", environment.stdout)
    loaded = shell("sales-assets load --report --from 2024-10-02 --to 2024-10-02")
    assert loaded.returncode == 0, loaded.stderr
    in_environment = 'eval "$(sales-assets env)"; '
    for line in (
        "dagster asset materialize -m sales_assets.definitions --select 'key:\"mart/d_*\"'",
        f"cd {PROJECT}; dg launch --assets 'key:\"mart/f_sales\"' --partition 2024-10-02",
    ):
        done = shell(in_environment + line)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    listed = shell(f"{in_environment} cd {PROJECT}; dg check defs && dg list defs --json")
    assert listed.returncode == 0, (listed.stdout, listed.stderr)
    assert {'"mart/f_sales"', '"sources/report_api"', '"load_days"', '"new_increments"'} <= set(
        re.findall(r'"[^"]+"', listed.stdout)
    )
    # A folder without a .env file: all settings that the command needs are in the environment.
    folder_without_env = tmp_path / "elsewhere"
    folder_without_env.mkdir()
    listed = shell(f'{in_environment} cd "{folder_without_env}"; dagster run list')
    assert listed.returncode == 0, listed.stderr
    assert len(re.findall(r"^Run: ", listed.stdout, re.MULTILINE)) == 3

    # `dagster dev` reads DAGSTER_HOME from .env; `dg dev` runs in the checkout.
    written = shell("sales-assets env --format dotenv >> .env")
    assert written.returncode == 0, written.stderr
    for line in (
        f"{in_environment} exec dagster-webserver --read-only -w workspace.yaml",
        "exec dagster dev -w workspace.yaml --host 127.0.0.1",
        f"{in_environment} cd {PROJECT}; exec dg dev --host 127.0.0.1",
    ):
        shown = runs_of_ui(shell, line)
        assert [status for _, status in shown] == ["SUCCESS"] * 3, line
        assert sorted(job for job, _ in shown) == ["__ASSET_JOB", "__ASSET_JOB", "load_report_and_days"], line


def runs_of_ui(shell: Shell, line: str) -> list[tuple[str, str]]:
    """Start a UI, return the (job, status) of the runs that it shows, and stop it."""
    port = free_port()
    ui = shell.start(f"{line} --port {port}")
    try:
        wait_for_http(f"http://127.0.0.1:{port}", ui)
        return runs_shown(f"http://127.0.0.1:{port}")
    finally:
        ended(ui)


def test_the_simulator_of_the_sender(command: Command) -> None:
    sender = command.start("sender-api", "--port", "0")
    assert sender.stdout is not None
    try:
        url = sender.stdout.readline().removeprefix("sender API: ").strip()
        assert requests.get(f"{url}/_messages", timeout=30).status_code == 200
    finally:
        sender.terminate()
        sender.communicate(timeout=60)
    assert sender.returncode == 0
