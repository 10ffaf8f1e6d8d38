import re

import pytest

from api.web import assets, stylesheet


def test_a_rule_stays_when_all_its_classes_are_of_a_kept_part() -> None:
    sheet = ".btn{a:b}.navbar .btn{a:b}.btn:not(.navbar){a:b}p{a:b}.carousel,.card{a:b}"
    assert stylesheet.light(sheet) == ".btn{a:b}.btn:not(.navbar){a:b}p{a:b}.card{a:b}"


def test_wide_screens_idle_keyframes_and_idle_tokens_go_and_the_banner_stays() -> None:
    sheet = (
        '/*! by somebody */@charset "UTF-8";:root{--a:1px;--b:var(--c);--c:2}.btn{width:var(--a)}'
        "@media (min-width:992px){.btn{x:y}}@media print{.btn{x:y}.modal{x:y}}"
        "@keyframes spin{to{x:y}}@keyframes fade{to{x:y}}.btn{animation:spin 1s}"
    )
    assert stylesheet.light(sheet) == (
        '/*! by somebody */\n@charset "UTF-8";:root{--a:1px;}.btn{width:var(--a)}'
        "@media print{.btn{x:y}}@keyframes spin{to{x:y}}.btn{animation:spin 1s}"
    )


def test_braces_and_semicolons_inside_strings_and_addresses_split_nothing() -> None:
    sheet = '.btn{background:url("data:image/svg+xml,{;}")}.modal{content:"}"}.card::before{content:"\\"{"}'
    assert list(stylesheet.rules(sheet)) == [
        (".btn", 'background:url("data:image/svg+xml,{;}")'),
        (".modal", 'content:"}"'),
        (".card::before", 'content:"\\"{"'),
    ]


def test_a_desks_sheet_is_whole_but_for_the_folding_sidebar_that_slows_every_page() -> None:
    sheet = "/*! by */.btn,.navbar-folded .x{a:b}@media print{[data-bs-sidebar=folded] *{a:b}.card{a:b}}.modal{a:b}"
    assert stylesheet.quiet(sheet) == "/*! by */\n.btn{a:b}@media print{.card{a:b}}.modal{a:b}"


def test_no_rule_of_the_alarm_desk_asks_what_an_element_holds() -> None:
    sheet = (assets.VENDOR.parent / "css" / "alarms.css").read_text()
    assert ":has(" not in sheet, "else the rows of the desk are looked at anew whenever one of them changes"


def test_the_phones_sheet_is_a_small_part_of_tabler_and_still_whole() -> None:
    if not assets.VENDOR.is_dir():
        pytest.skip("needs the browser libraries (python -m api.web.assets, or make test)")
    whole = (assets.VENDOR / "tabler" / "tabler.min.css").read_text()
    light = (assets.VENDOR / "tabler" / "tabler.light.css").read_text()
    assert len(light) < len(whole) / 5
    assert light.count("{") == light.count("}")
    unset = set(re.findall(r"var\((--[\w-]+)\)", light)) - set(re.findall(r"(--[\w-]+):", light))
    assert unset <= set(re.findall(r"var\((--[\w-]+)\)", whole)) - set(re.findall(r"(--[\w-]+):", whole))
