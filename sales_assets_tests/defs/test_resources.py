"""Resources: the fields that a run may set, none of which is a secret or the address that receives a secret."""

import dagster as dg
import pytest
from pydantic import SecretStr

from sales_assets.defs.resources import ReportApiResource
from sales_assets.resources.report_api import PermanentError, ReportApi
from sales_assets.settings import Settings, settings
from sales_assets_tests.builders import Order, job
from sales_assets_tests.conftest import KEY
from sales_assets_tests.fixtures import Shop, failure_of

FIELDS = set(ReportApiResource.model_fields)


def load_report(shop: Shop, **fields: float) -> dg.ExecuteInProcessResult:
    """Run the job with these fields, as from the Launchpad."""
    config = {"resources": {"report_api": {"config": fields}}}
    return job("load_report").execute_in_process(instance=shop.instance, run_config=config, raise_on_error=False)


def test_a_field_overrides_its_setting_for_one_run(shop: Shop) -> None:
    shop.reports.report([Order("a", day="2024-09-30")])
    failed = load_report(shop, raw_files_max_bytes=10)
    assert not failed.success
    assert "10 are accepted" in failure_of(failed)
    assert load_report(shop).success


def test_a_field_is_validated_before_any_request(shop: Shop) -> None:
    assert not load_report(shop, report_api_timeout=-1).success
    assert shop.api.count("/generate_report") == 0


def test_fields_are_settings_and_other_settings_remain_in_effect() -> None:
    assert set(Settings.model_fields) >= FIELDS
    made = ReportApiResource(report_api_timeout=3).create_resource(dg.build_init_resource_context())
    assert made._settings == settings().model_copy(update={"report_api_timeout": 3.0})


def test_no_field_is_a_secret_or_an_address() -> None:
    assert {name for name in FIELDS if "SecretStr" in str(Settings.model_fields[name].annotation)} == set()
    assert {name for name in FIELDS if any(word in name for word in ("url", "host", "key", "home"))} == set()
    assert KEY not in str(dg.validate_run_config(job("load_report"), {}))


def test_a_client_with_given_settings_ignores_the_environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    url = settings().report_api_url
    monkeypatch.setenv("REPORT_API_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    given = Settings(report_api_url=url, report_api_key=SecretStr("another key"))
    with pytest.raises(PermanentError, match="access refused"):
        ReportApi(given).make_report()
    assert shop.api.count("/generate_report") == 1
