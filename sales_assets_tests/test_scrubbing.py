"""Scrubbing: all usual forms of credentials are removed from messages of libraries, and useful information is kept."""

import pytest

from sales_assets.scrubbing import redacted, scrubbed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no https://key:canary@host:9000/a/b here", "no https://host:9000/a/b here"),
        ("s3://key:can/ary@bucket/x", "s3://bucket/x"),
        ("GET https://host/x.csv?X-Amz-Signature=canary&sig=canary", "GET https://host/x.csv"),
        ("'https://host/x#access_token=canary'", "'https://host/x'"),
        ("ftp://u:can?ary@host/x", "ftp://***"),
        ("https://host/x?mail=a@b.example&sig=canary", "https://***"),
        ("url: /x?sig=canary&se=2030 (Caused by ...)", "url: /x?*** (Caused by ...)"),
        ("what? a=b", "what? a=b"),
        ("host=h password=canary dbname=d", "host=h password=*** dbname=d"),
        ("password='can ary' host=h", "password=*** host=h"),
        ("FATAL:  password authentication failed", "FATAL:  password authentication failed"),
        ("{'aws_secret_access_key': 'can ary', 'region': 'eu'}", "{'aws_secret_access_key': '***', 'region': 'eu'}"),
        ('{"accountKey": "canary", "host": "h"}', '{"accountKey": "***", "host": "h"}'),
        ("AccountName=a;AccountKey=canary==;EndpointSuffix=e", "AccountName=a;AccountKey=***;EndpointSuffix=e"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=canary, Signature=canary", "Authorization: ***"),
        ("authorization: Bearer canary\nHost: h", "authorization: ***\nHost: h"),
        ("<AWSAccessKeyId>canary</AWSAccessKeyId><Key>raw</Key>", "<AWSAccessKeyId>***</AWSAccessKeyId><Key>raw</Key>"),
        ("user AKIAIOSFODNN7CANARY0 may not", "user *** may not"),
        ("token=canary password: canary, passwd=canary", "token=*** password: ***, passwd=***"),
        ("No such key: bucket/raw/a.csv", "No such key: bucket/raw/a.csv"),
        ("[Errno 28] No space left on device: '/raw/a@b.csv'", "[Errno 28] No space left on device: '/raw/a@b.csv'"),
    ],
)  # fmt: skip
def test_credentials_are_removed_and_other_text_is_kept(text: str, shown: str) -> None:
    assert scrubbed(text) == shown


def test_given_secrets_are_removed_longest_first() -> None:
    assert scrubbed("a canary b canary-long", ["canary", "canary-long"]) == "a *** b ***"


def test_secrets_of_the_environment_are_removed_in_any_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary/one")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "canary-two")
    monkeypatch.setenv("FSSPEC_S3_KEY", "canary-three")
    monkeypatch.setenv("FSSPEC_GCS", '{"token": "canary-four", "project": "shop-project"}')
    monkeypatch.setenv("FSSPEC_FTP", "not JSON")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    text = "a canary/one b canary-two c canary-three d canary-four e shop-project"
    assert scrubbed(text) == "a *** b *** c *** d *** e shop-project"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("price_log of the increment: there is no header", "price_log of the increment: there is no header"),
        ("there is no header: found '17,Anna', not 'id,uniq_id'", "there is no header: found '...', not '...'"),
        ("can't read \"Anna's file\": it isn't UTF-8", "can't read '...': it isn't UTF-8"),
        ("unexpected text 'Anna that goes on", "unexpected text '..."),
        ("key (phone)=(+7 916 123-45-67) exists", "key (phone)=(...) exists"),
        ("phones 8 (916) 123-45-67 and 79161234567 of anna@mail.example", "phones ... and ... of ..."),
        ("2024-10-01 to 2024-10-31: line 123456: no answer", "2024-10-01 to 2024-10-31: line 123456: no answer"),
        ("relation does not exist\nLINE 1: SELECT 'Anna'\nDETAIL: Anna", "relation does not exist"),
        ("<!channel> and @everyone", "(!channel) and (at)everyone"),
        ("at https://u:canary@host/path?sig=canary with token=canary", "at https://*** with token=***"),
        ("", ""),
    ],
)  # fmt: skip
def test_reasons_for_outsiders_contain_no_personal_data(reason: str, shown: str) -> None:
    assert redacted(reason) == shown
