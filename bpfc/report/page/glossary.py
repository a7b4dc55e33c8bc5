"""What the names of attacks mean, for who has not met them: of those that a page speaks of."""

import re
from collections.abc import Sequence

from bpfc.evaluation.forms import FORMS
from bpfc.report.page.records import Record


def glossary(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Forms of names, each with what it does as `bpfc attacks` says it; those that do alike stand together."""
    ran = {name for record in records for item in record.evaluations for name in item.attacks}
    names = {name.partition("@")[0].removesuffix("-last") for name in ran}
    found: dict[str, list[str]] = {}
    before = FORMS[0]
    for form in FORMS:
        if not form.what.startswith("the same"):
            before = form
        if any(re.fullmatch(form.pattern, name, re.ASCII) for name in names):
            for each in dict.fromkeys((before, form)):  # the same as what?
                found.setdefault(each.what, []).append(each.shown)
    if any("@" in name for name in ran):
        found["the attack on that network, whose images this one gets"] = ["…@NETWORK"]
    return [(", ".join(dict.fromkeys(shown)), what) for what, shown in found.items()]
