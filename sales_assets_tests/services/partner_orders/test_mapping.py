"""Mapping files: parsed in every format that editors and spreadsheets save, rejected as a whole with one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sales_assets.postgres.warehouse import Warehouse
from sales_assets.services.partner_orders.mapping import Mapping, MappingError, mappings_in, store

Query = Callable[..., list[tuple[object, ...]]]

MAPPINGS = [Mapping("item", "58", 3), Mapping("pharmacy", "1086", 7), Mapping("customer", "79997772211", 51)]

FILES = {
    "plain": b"kind,theirs,ours\nitem,58,3\n\npharmacy,1086,7\ncustomer,79997772211,51\n",
    "windows": b"kind,theirs,ours\r\nitem,58,3\r\npharmacy,1086,7\r\ncustomer,79997772211,51",
    "macintosh": b"kind,theirs,ours\ritem,58,3\rpharmacy,1086,7\rcustomer,79997772211,51\r",
    "semicolons": b"\xef\xbb\xbfkind;theirs;ours\r\nitem;58;3\r\npharmacy;1086;7\r\ncustomer;79997772211;51\r\n",
    "utf-16 and tabs": "kind\ttheirs\tours\r\nitem\t58\t3\r\npharmacy\t1086\t7\r\ncustomer\t79997772211\t51".encode(
        "utf-16"
    ),
    "utf-16-be": b"\xfe\xff"
    + "kind,theirs,ours\nitem,58,3\npharmacy,1086,7\ncustomer,79997772211,51".encode("utf-16-be"),
    "blanks and case": b"Kind, Theirs ,OURS\nitem, 58 ,3\nPHARMACY,1086,\xc2\xa07\ncustomer , 79997772211, 51\n",
    "another order": b"ours,kind,theirs\n3,item,58\n7,pharmacy,1086\n51,customer,79997772211\n",
    "empty rows": b"\nkind,theirs,ours\nitem,58,3\n,,\npharmacy,1086,7\n , ,\ncustomer,79997772211,51\n,,\n,,\n",
    "trailing delimiters": b"kind;theirs;ours;;\nitem;58;3;;\npharmacy;1086;7;\ncustomer;79997772211;51;;;;\n;;;;\n",
    "quotes": b'"kind","theirs","ours"\n"item","58","3"\n"pharmacy","1086","7"\n"customer","79997772211","51"\n',
    "numbers as text": b'kind,theirs,ours\nitem,\'58,3\npharmacy,="1086",7\ncustomer,"=""79997772211""",51\n',
    "twice the same": b"kind,theirs,ours\nitem,58,3\nitem,58,3\npharmacy,1086,7\ncustomer,79997772211,51\nitem,58,3\n",
}


@pytest.mark.parametrize("saved", FILES)
def test_mapping_file_is_parsed_in_every_saved_format(tmp_path: Path, saved: str) -> None:
    file = tmp_path / "mapping.csv"
    file.write_bytes(FILES[saved])
    assert mappings_in(file) == MAPPINGS


BAD_FILES = [
    (b"", "line 1: the columns must be kind,theirs,ours"),
    (b"item,58,3\n", "line 1: the columns must be kind,theirs,ours"),
    (b"kind,theirs,ours,ours\nitem,58,3,3\n", "line 1: the columns must be"),
    (b"kind,theirs,ours\nshop,58,3\n", "line 2: the kind must be item, pharmacy, customer, not 'shop'"),
    (b"kind,theirs,ours\nitem,58,3\nitem,59\n", "line 3: 2 columns instead of 3"),
    (b"kind,theirs,ours\nitem,58,3,4\n", "line 2: 4 columns instead of 3"),
    (b"kind,theirs,ours\nitem,58,\n", "line 2: ours must be a whole number below 2147483648, not ''"),
    (
        b"kind,theirs,ours\n" + b"s" * 41 + b",58,3\n",
        f"line 2: the kind must be item, pharmacy, customer, not '{'s' * 40}'",
    ),
    (b"kind,theirs,ours\n,58,3\n", "line 2: the kind must be"),
    (b"kind,theirs,ours\nitem,,3\n", "line 2: theirs must have 1 to 256 characters"),
    (b"kind,theirs,ours\nitem," + b"5" * 257 + b",3\n", "line 2: theirs must have 1 to 256 characters"),
    (b"kind,theirs,ours\nitem,58,x\n", "line 2: ours must be a whole number below 2147483648, not 'x'"),
    (b"kind,theirs,ours\nitem,58,2147483648\n", "line 2: ours must be"),
    (b"kind,theirs,ours\nitem,58," + b"9" * 5_000, "line 2: ours must be"),
    (b"kind,theirs,ours\nitem,58,3.0\n", "line 2: ours must be"),
    (b"kind,theirs,ours\nitem,58,-3\n", "line 2: ours must be"),
    (b'kind,theirs,ours\nitem,58,"1,234"\n', "line 2: ours must be"),
    ("kind,theirs,ours\nitem,58,\u0663\n".encode(), "line 2: ours must be"),
    (b"kind,theirs,ours\r\nitem,58,3\r\ncustomer,7.99978E+10,51\r\n", "line 3: 7.99978E+10 was rounded"),
    (b'kind,theirs,ours\r\nitem,58,3\r\ncustomer,"7,99978E+10",51\r\n', "line 3: 7,99978E+10 was rounded"),
    (b"kind,theirs,ours\r\nitem,8E+01,51\r\n", "line 2: 8E+01 was rounded by a spreadsheet"),
    (b"kind,theirs,ours\nitem,58,3\nitem,5\x008,3\n", "line 3: holds a character that is not text"),
    ("kind,theirs,ours\r\nitem,58,3\r\nitem,\u041c\u043e,3\r\n".encode("cp1251"), "line 3: not UTF-8"),
    ("kind,theirs,ours\ritem,58,3\ritem,\u041c\u043e,3\r".encode("cp1251"), "line 3: not UTF-8"),
    ("kind,theirs,ours\nitem,58,3\n".encode("utf-16-le"), "line 1: holds a character that is not text"),
    ("kind,theirs,ours\nitem,58,3\n".encode("utf-16")[:-1], "line 2: not UTF-8"),
    (b"kind,theirs,ours\nitem,58,3\nitem,58,4\n", "line 3: item 58 is 4, but 3 in "),
    (b'kind,theirs,ours\nitem,"58"0,3\n', "line 2: "),
    (b'kind,theirs,ours\nitem,58,3\nitem,"58,3\n', "line 3: "),
]


@pytest.mark.parametrize(("content", "reason"), BAD_FILES)
def test_a_mapping_file_is_rejected_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "mapping.csv"
    file.write_bytes(content)
    with pytest.raises(MappingError) as caught:
        mappings_in(file)
    assert str(caught.value).startswith(f"{file}, {reason}")
    assert "\n" not in str(caught.value)


def test_header_line_determines_the_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text("kind;theirs;ours\nitem;5,8,,,;3\n")
    assert mappings_in(file) == [Mapping("item", "5,8,,,", 3)]


def test_a_mapping_file_has_at_most_64_mebibytes(tmp_path: Path) -> None:
    file = tmp_path / "mapping.csv"
    with file.open("wb") as sparse:
        sparse.truncate(64 * 1024 * 1024 + 1)
    with pytest.raises(MappingError, match=r"mapping\.csv: larger than 64 MiB$"):
        mappings_in(file)


@pytest.mark.parametrize("phone", ["no phone", "7.99977722E10", "79997772211.0", "799977722", "375291234567"])
def test_mapping_file_with_an_invalid_phone_is_not_stored_at_all(
    tmp_path: Path, warehouse_url: str, query: Query, phone: str
) -> None:
    file = tmp_path / "mapping.csv"
    file.write_text(f"kind,theirs,ours\nitem,58,3\ncustomer,79997772211,51\ncustomer,{phone},52\n")
    with pytest.raises(MappingError, match=f"line 4: {phone!r} is not a phone number"):
        store(Warehouse(), mappings_in(file))
    for table in ("item", "pharmacy", "customer"):
        assert query(f"SELECT count(*) FROM staging.partner_{table}") == [(0,)]
