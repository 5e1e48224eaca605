"""`sales-assets report-api`, `partner-api` and `sender-api`: run simulators of external systems."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from sales_assets.cli.console import out


def report_api(
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Serve this folder: main/*.csv and inc/YYYY-MM-DD/*_inc.csv. Any file and any day may be missing.",
        ),
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="Serve generated data up to today.")] = False,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8080,
    report_seconds: Annotated[float, typer.Option(help="Seconds for which a report stays RUNNING.", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the generated data.", min=0)] = 0,
    lines_per_day: Annotated[int, typer.Option(help="Generated order lines per day.", min=0)] = 1000,
    news_every: Annotated[
        float | None, typer.Option(help="Seconds between new generated increments; default: all at once.")
    ] = None,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every response.", min=0)] = 0,
    trickle: Annotated[float, typer.Option(help="Fault: seconds between the chunks of a file.", min=0)] = 0,
    bad_gateway: Annotated[float, typer.Option(help="Fault: share of responses with status 502.", min=0, max=1)] = 0,
    html: Annotated[float, typer.Option(help="Fault: share of responses that are HTML.", min=0, max=1)] = 0,
    cut: Annotated[float, typer.Option(help="Fault: share of downloads that are cut off.", min=0, max=1)] = 0,
    wrong_length: Annotated[int, typer.Option(help="Fault: bytes that Content-Length is off by.")] = 0,
    lost_file: Annotated[
        str | None, typer.Option(help="Fault: a listed file that returns 404, such as price_log_inc.")
    ] = None,
    never_ready: Annotated[bool, typer.Option("--never-ready", help="Fault: reports stay RUNNING forever.")] = False,
    expired_links: Annotated[int, typer.Option(help="Fault: number of links that are expired when issued.", min=0)] = 0,
) -> None:
    """Run a simulator of the report API, over a folder of files or over generated data, until Ctrl-C.

    Uses the wire format of the real API. Accepts the key in REPORT_API_KEY, or any key if it is not set.
    """
    from tempfile import TemporaryDirectory

    from sales_assets.deploy.ui import end_on_signals
    from sales_assets.services.http.server import serve
    from sales_assets.settings import settings
    from sales_assets.simulators.report_api.app import ReportApi
    from sales_assets.simulators.report_api.faults import Faults

    if (data is None) is not generated:
        raise typer.BadParameter("give --data DIR or --generated")
    faults = Faults(
        seed=seed,
        slow=slow,
        trickle=trickle,
        bad_gateway=bad_gateway,
        html=html,
        cut=cut,
        wrong_length=wrong_length,
        lost_file=lost_file,
        never_ready=never_ready,
        expired_links=expired_links,
    )
    end_on_signals()  # the server handles SIGINT and SIGTERM; SIGHUP would leave the generated files behind
    with ExitStack() as stack:
        if data is None:
            from sales_assets.simulators.report_api.generate import Shop
            from sales_assets.simulators.report_api.live import live

            data = Path(stack.enter_context(TemporaryDirectory(dir=_generated_home())))
            stack.enter_context(live(data, Shop(seed=seed, lines_per_day=lines_per_day), every=news_every))
        key = settings().report_api_key.get_secret_value()
        api = ReportApi(data, api_key=key, report_seconds=report_seconds, faults=faults)
        serve(api, port=port, on_ready=lambda url: out.print(f"report API: {url}"))


def _generated_home() -> Path:
    from sales_assets.settings import settings

    folder = settings().sales_home / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def partner_api(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8081,
    seed: Annotated[int, typer.Option(help="Seed that selects the responses with faults.", min=0)] = 0,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every response.", min=0)] = 0,
    server_error: Annotated[float, typer.Option(help="Fault: share of responses with status 500.", min=0, max=1)] = 0,
    too_many: Annotated[float, typer.Option(help="Fault: share of responses with status 429.", min=0, max=1)] = 0,
    html: Annotated[float, typer.Option(help="Fault: share of responses that are HTML.", min=0, max=1)] = 0,
    lost: Annotated[
        float, typer.Option(help="Fault: share of creates and cancels done without a response.", min=0, max=1)
    ] = 0,
) -> None:
    """Run a simulator of the partner's API until Ctrl-C: `PARTNERAPI_URL=http://127.0.0.1:8081 sales-assets api`.

    Orders are kept in memory. While it runs: PUT /_faults {"slow": 3}; PUT /_answers/create [{"status": 500}] for the
    next responses; PUT /_stock/21737 {"known": false}; PUT /_orders/777 {"status": "done"}; GET /_seen counts calls.
    """
    from sales_assets.services.http.server import serve
    from sales_assets.simulators.partner_api import Faults, PartnerApi

    faults = Faults(seed=seed, slow=slow, server_error=server_error, too_many=too_many, html=html, lost=lost)
    serve(PartnerApi(faults), port=port, on_ready=lambda url: out.print(f"partner API: {url}"))


def sender_api(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8082,
    seed: Annotated[int, typer.Option(help="Seed that selects the responses with faults.", min=0)] = 0,
    slow: Annotated[float, typer.Option(help="Fault: seconds before every response.", min=0)] = 0,
    server_error: Annotated[float, typer.Option(help="Fault: share of responses with status 500.", min=0, max=1)] = 0,
    too_many: Annotated[float, typer.Option(help="Fault: share of responses with status 429.", min=0, max=1)] = 0,
    retry_after: Annotated[str, typer.Option(help="Retry-After of status 429: seconds, an HTTP date, or empty.")] = "1",
    html: Annotated[float, typer.Option(help="Fault: share of responses that are HTML.", min=0, max=1)] = 0,
    refused: Annotated[float, typer.Option(help="Fault: share of responses with another code.", min=0, max=1)] = 0,
    lost: Annotated[float, typer.Option(help="Fault: share of messages sent without a response.", min=0, max=1)] = 0,
) -> None:
    """Run a simulator of the service that sends messages, until Ctrl-C, for SENDER_URL=http://127.0.0.1:8082.

    Accepts the token in SENDER_TOKEN, or any token if it is not set. Messages are kept in memory. While it runs: PUT
    /_faults {"slow": 3}; PUT /_answers [{"status": 500}] for the next responses; GET /_seen counts sends by message id;
    GET /_messages shows the latest messages.
    """
    from sales_assets.services.http.server import serve
    from sales_assets.settings import settings
    from sales_assets.simulators.sender_api import Faults, SenderApi

    faults = Faults(
        seed=seed,
        slow=slow,
        server_error=server_error,
        too_many=too_many,
        retry_after=retry_after,
        html=html,
        refused=refused,
        lost=lost,
    )
    sender = SenderApi(faults, token=settings().sender_token.get_secret_value())
    serve(sender, port=port, on_ready=lambda url: out.print(f"sender API: {url}"))
