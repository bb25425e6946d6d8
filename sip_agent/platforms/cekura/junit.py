"""A report as JUnit XML, as CI servers read it: https://github.com/testmoapp/junitxml describes what is common."""

import re
from xml.etree import ElementTree as ET

from sip_agent.platforms.cekura.gate import Check
from sip_agent.platforms.cekura.join import JoinedRun
from sip_agent.platforms.cekura.report import Report, check_value, comparison, our_words, scenario_text

FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 §2.2 does not allow."""


def junit(report: Report) -> str:
    """Return the report as JUnit XML: a test case per run, and one per check of the gate."""
    result = report.followed.result
    cases = [*(_run_case(run) for run in report.followed.joined.runs), *map(_check_case, report.checks)]
    failures = sum(case.find("failure") is not None for case in cases)
    errors = sum(case.find("error") is not None for case in cases)
    totals = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    attributes = {
        "name": _xml(result.name or f"Cekura result {result.id}"),
        "timestamp": report.started_at.strftime("%Y-%m-%dT%H:%M:%S"),
        "time": f"{(report.ended_at - report.started_at).total_seconds():.3f}",
    }
    root = ET.Element("testsuites", totals)
    suite = ET.SubElement(root, "testsuite", attributes | totals)
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", name="result_id", value=str(result.id))
    suite.extend(cases)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _run_case(joined: JoinedRun) -> ET.Element:
    run, record = joined.run, joined.record
    case = ET.Element("testcase", classname="cekura.runs", name=_xml(f"{scenario_text(run)} (run {run.id})"))
    if run.duration_s is not None:
        case.set("time", str(run.duration_s))
    if not run.over:
        ET.SubElement(case, "error", type=run.status or "unknown", message="not over in time")
    elif not run.passed:
        failure = ET.SubElement(case, "failure", type=run.status, message=_xml(run.reasons[0]))
        failure.text = _xml("\n".join((*run.reasons, f"here: {our_words(record)}")))
    lines = [f"call_uuid: {record['call_uuid']}", our_words(record)] if record is not None else [our_words(record)]
    lines += [f"{name}: Cekura {theirs or '-'}, here {ours or '-'}" for name, theirs, ours in comparison(joined)]
    ET.SubElement(case, "system-out").text = _xml("\n".join(lines))
    return case


def _check_case(check: Check) -> ET.Element:
    case = ET.Element("testcase", classname="cekura.gate", name=check.name)
    if not check.passed:
        text = f"{check_value(check)}, asked: {check.limit}"
        ET.SubElement(case, "failure", type="gate", message=_xml(text)).text = _xml(check.note)
    return case


def _xml(text: str) -> str:
    return FORBIDDEN.sub("�", text)
