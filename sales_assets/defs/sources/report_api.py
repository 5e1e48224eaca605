"""``sources/report_api``: the external service that generates reports and increments."""

import dagster as dg

REPORT_API = dg.AssetKey(["sources", "report_api"])

report_api = dg.AssetSpec(
    REPORT_API,
    description="The service of reports and increments, at `REPORT_API_URL`: a report covers a past period, an "
    "increment one day after it. On day D the report ends with D-8, and increments exist for D-7 to D-1.\n\n"
    "Responses and files: `docs/data-contracts/report-api.md`.",
)
