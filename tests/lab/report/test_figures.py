from __future__ import annotations

from xml.etree import ElementTree

import pytest
from report_data import ARMS, matrix, summary

from redraft.lab.bench.matrix import cost_table
from redraft.lab.report.figures import (
    COLOURS,
    Picture,
    colour,
    cost_figure,
    cumulative_figure,
    pulls_figure,
    training_figure,
)

ROWS = matrix()
SUMMARY = summary(ROWS)
COUNTS = {"late": {"base": [1.0, 1.0], "sft": [0.0, 1.0]}, "uniform": {"base": [0.0, 0.0], "sft": [1.0, 2.0]}}
FIGURES = {
    "cost": cost_figure({"": (SUMMARY.mean_cost, SUMMARY.interval)}),
    "cumulative": cumulative_figure(cost_table(ROWS)),
    "pulls": pulls_figure(COUNTS),
    "training": training_figure({"": {method: [points] for method, points in SUMMARY.training.items()}}),
    "no interval": cost_figure({"": ({"base": 0.0}, {})}),
    "no rounds": cumulative_figure({}),
    "no selector": pulls_figure({}),
    "no points": training_figure({"": {"sft": [[]]}}),
}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_svg_that_can_stand_in_a_page(figure: Picture):
    for svg in filter(None, (figure.wide, figure.narrow)):
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg")
        assert "viewBox" in root.attrib
        assert "width" not in root.attrib
        assert "currentColor" in svg
        assert "#010203" not in svg
        assert "<!DOCTYPE" not in svg


def test_a_file_brings_its_size_and_follows_the_system_light_or_dark():
    root = ElementTree.fromstring(FIGURES["cost"].file)
    assert int(root.attrib["width"]) > int(root.attrib["height"]) > 200
    assert "prefers-color-scheme: dark" in str(root[0].text)


def test_only_several_panels_have_a_layout_of_their_own_for_narrow_screens():
    assert {name for name, figure in FIGURES.items() if figure.narrow} == {"pulls"}
    width = float(ElementTree.fromstring(FIGURES["pulls"].narrow).attrib["viewBox"].split()[2])
    assert width < 350  # of the 358 px that a phone of 390 has for it: text of 13.5 units is 14 px high


def texts(figure: Picture) -> list[str]:
    found = ElementTree.fromstring(figure.wide).iter()
    return ["".join(element.itertext()).strip() for element in found if element.tag.endswith("text")]


def test_figures_say_what_they_show():
    assert {*SUMMARY.mean_cost, f"{SUMMARY.mean_cost['dpo']:.2f}"} <= set(texts(FIGURES["cost"]))
    assert {*ARMS, "round", "cost paid so far"} <= set(texts(FIGURES["cumulative"]))
    assert {"late", "uniform", "base", "sft", "times chosen"} <= set(texts(FIGURES["pulls"]))
    assert {"sft", "dpo", "early", "step"} <= set(texts(FIGURES["training"]))


def test_the_same_data_give_the_same_figure():
    assert cumulative_figure(cost_table(ROWS)) == FIGURES["cumulative"]


def test_a_policy_keeps_its_colour_under_its_full_name():
    assert colour("email/sft@3") == colour("sft-second") == colour("sft") == COLOURS["sft"]
    assert colour("mine").startswith("#")
