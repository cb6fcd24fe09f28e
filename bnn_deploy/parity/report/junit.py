"""A parity report as JUnit XML, the form that CI servers read: a suite a case and runner, a test a thing compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bnn_deploy.parity.results import CaseResult, ParityReport, RunnerResult

END_TO_END = "end to end"
# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: ParityReport) -> bytes:
    """UTF-8 with an XML declaration. `testsuites` > `testsuite` > `testcase` > `failure`.

    A suite is a case on a runner; the first is the file itself, whatever runs it. A failed test holds what the report
    says of it; what it says of the network as a whole belongs to the test `end to end`.
    """
    root = Element("testsuites", name=_text(f"parity of {report.model}"))
    suites = [_file_suite(root, report)]
    suites += [_suite(root, case, result) for case in report.cases for result in case.runners]
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _file_suite(root: Element, report: ParityReport) -> Element:
    suite = SubElement(root, "testsuite", name="the file")
    properties = SubElement(suite, "properties")
    facts = {"file": report.file, "sha256": report.sha256, "precision": report.precision, **report.versions}
    for name, value in facts.items():
        SubElement(properties, "property", name=_text(name), value=_text(value))
    _test(suite, "file", "the file", report.file_failures)
    return _counted(suite)


def _suite(root: Element, case: CaseResult, result: RunnerResult) -> Element:
    suite = SubElement(root, "testsuite", name=_text(f"{case.case} on {result.runner}"))
    # A dot would be read as the border between a package and a class.
    group = f"{result.runner}.{case.case.replace('.', '_')}"
    left = list(result.failures)
    for kind, name, place, passed in _compared(result):
        told = [failure for failure in left if failure.startswith(f"{place}: ")] if not passed else []
        left = [failure for failure in left if failure not in told]
        _test(suite, f"{group}.{kind}", name, told if passed or told else [f"{name}: does not pass"])
    _test(suite, f"{group}.{END_TO_END}", END_TO_END, left)
    if result.free_run is not None:
        run = result.free_run
        shown = run.first_divergence or "none"
        text = f"first divergence: {shown}; {run.sign_flips} flips; outputs off by {run.max_abs_error:.3g}"
        SubElement(suite, "system-out").text = _text(text)
    return _counted(suite)


def _compared(result: RunnerResult) -> Iterator[tuple[str, str, str, bool]]:
    """(kind, name of the test, what its failures begin with, whether it passed)."""
    yield from (("layer", layer.layer, layer.layer, layer.passed) for layer in result.layers)
    yield from (("binarisation", entry.layer, entry.layer, entry.passed) for entry in result.binarizations)
    yield from (("probe", f"{probe.layer}: {probe.probe}", probe.layer, probe.passed) for probe in result.probes)


def _test(suite: Element, group: str, name: str, failures: list[str] | tuple[str, ...]) -> None:
    test = SubElement(suite, "testcase", classname=_text(group), name=_text(name), time="0")
    if failures:
        failure = SubElement(test, "failure", type="parity", message=_text(failures[0]))
        failure.text = _text("\n".join(failures))


def _counted(suite: Element) -> Element:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", "0")
    suite.set("time", "0")
    return suite


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
