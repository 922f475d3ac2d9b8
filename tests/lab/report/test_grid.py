from __future__ import annotations

from redraft.lab.report.figures import Picture
from redraft.lab.report.grid import Entry, Grid, Line, markdown
from redraft.lab.report.sections import Drawing, Example, Section, sections_markdown


def test_a_table_in_markdown():
    grid = Grid("Costs.", ("policy", "here"), (Line("a|b", (Entry("0.1", True),)), Line("c", (Entry("1\n2"),))))
    assert markdown(grid) == "Costs.\n\n| policy | here |\n|---|--:|\n| a\\|b | **0.1** |\n| c | 1 2 |"


def test_long_cells_ask_for_small_print():
    assert not Grid("", ("a", "b"), (Line("x" * 40, (Entry("0.123 ± 0.010"),)),)).dense
    assert Grid("", ("a", "b"), (Line("x", (Entry("−0.350 [−0.420, −0.279]"),)),)).dense


def test_sections_in_markdown_leave_examples_out():
    drawing = Drawing("cost", "Cost", Picture("<svg/>"), "Near π*.")
    shown = Section("Costs", ("Said.",), (Grid("", ("a",), ()),), (drawing,))
    only_examples = Section("Before and after", ("Shown.",), examples=(Example("one", ()),))
    text = sections_markdown("run", ["Lead: π* is not π*."], [shown, only_examples, Section("Claims", ("Held.",))])
    assert text.startswith("# run\n\nLead: π\\* is not π\\*.\n\n## Costs\n\nSaid.\n")
    assert "![Cost](figures/cost.svg)\n\nCost. Near π\\*." in text
    assert text.endswith("## Claims\n\nHeld.\n")
    assert "Before and after" not in text
