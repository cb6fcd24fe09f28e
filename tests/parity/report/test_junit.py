"""The structure that CI servers read: what Jenkins' and GitLab's schemas ask for, and nothing they refuse."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bnn_deploy.parity.report.junit import END_TO_END, render_junit
from bnn_deploy.parity.results import ParityReport

COUNTS = {"tests", "failures", "errors", "skipped"}
ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, {"testsuite"}),
    "testsuite": ({"name", "time", *COUNTS}, {"properties", "testcase", "system-out"}),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": ({"classname", "name", "time"}, {"failure"}),
    "failure": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}


def parsed(report: ParityReport) -> ElementTree.Element:
    content = render_junit(report)
    assert content.startswith(b"<?xml version='1.0' encoding='utf-8'?>")
    return ElementTree.fromstring(content)


def test_elements_and_attributes(report: ParityReport) -> None:
    root = parsed(report)
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes and {child.tag for child in element} <= children, element.tag
        if element.tag != "failure" and element.tag != "system-out":
            assert not (element.text or "").strip()
    for test in root.iter("testcase"):
        assert test.get("classname") and test.get("name") and test.get("time") == "0"
    # The order that the schema wants within a suite.
    order = ["properties", "testcase", "system-out"]
    for suite in root:
        tags = [order.index(child.tag) for child in suite]
        assert tags == sorted(tags)


def test_counts(report: ParityReport) -> None:
    root = parsed(report)
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))
    for name in ("tests", "failures"):
        assert int(root.get(name, "")) == sum(int(suite.get(name, "")) for suite in root)


def test_every_test_has_a_name_of_its_own(report: ParityReport) -> None:
    names = [(test.get("classname"), test.get("name")) for test in parsed(report).iter("testcase")]
    assert len(set(names)) == len(names)


def test_every_failure_is_told_once_and_in_its_place(report: ParityReport) -> None:
    root = parsed(report)
    told = {
        f"{suite.get('name')}: {test.get('name')}": (test.find("failure").text or "").splitlines()  # type: ignore[union-attr]
        for suite in root
        for test in suite.findall("testcase")
        if test.find("failure") is not None
    }
    suite = "batch 7 on native-cpu"
    failures = report.cases[1].runners[2].failures
    assert told == {
        "the file: the file": list(report.file_failures),
        f"{suite}: layer1": [failures[0]],
        f"{suite}: layer1.b/Binarize": [failures[1]],
        f"{suite}: layer1/Binarize: negative zeros": [failures[2]],
        f"{suite}: {END_TO_END}": [failures[3]],
    }


def test_a_good_report_has_no_failure(report: ParityReport) -> None:
    root = parsed(replace(report, cases=report.cases[:1], file_failures=()))
    assert not list(root.iter("failure")) and root.get("failures") == "0" and int(root.get("tests", "")) > 10


@pytest.mark.parametrize("name", ['a<b>&"c"', "\x00\x1b[31m\ud800", "déjà 模型 🙂"])
def test_names_of_any_kind(name: str, report: ParityReport) -> None:
    case = replace(report.cases[1], case=name, runners=(replace(report.cases[1].runners[2], failures=(name,)),))
    root = parsed(replace(report, model=name, cases=(case,)))
    (end,) = [test for test in root.iter("testcase") if test.get("name") == END_TO_END]
    failure = end.find("failure")
    assert failure is not None and failure.get("message")
    if name.isprintable():
        assert failure.text == name


def test_the_end_of_the_free_run(report: ParityReport) -> None:
    told = [element.text or "" for element in parsed(report).iter("system-out")]
    assert any("first divergence: layer1.b/Binarize; 9 flips" in text for text in told)
    assert any("first divergence: none" in text for text in told)
