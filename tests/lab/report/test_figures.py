from __future__ import annotations

from xml.etree import ElementTree

import pytest
from report_data import ARMS, decisions, matrix, summary

from redraft.lab.bench.matrix import cost_table
from redraft.lab.report.figures import COLOURS, colour, cost_figure, cumulative_figure, pulls_figure, training_figure

ROWS = matrix()
SUMMARY = summary(ROWS)
FIGURES = {
    "cost": cost_figure(SUMMARY["mean_cost"], SUMMARY["interval"]),
    "cumulative": cumulative_figure(cost_table(ROWS)),
    "pulls": pulls_figure(decisions(ROWS)),
    "training": training_figure(SUMMARY["training"]),
    "no interval": cost_figure({"base": 0.0}, {}),
    "no rounds": cumulative_figure({}),
    "no selector": pulls_figure({}),
    "no points": training_figure({"sft": []}),
}


@pytest.mark.parametrize("svg", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_svg_that_can_stand_in_a_page(svg: str):
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert "viewBox" in root.attrib
    assert "width" not in root.attrib
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert "<!DOCTYPE" not in svg


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()).strip()
        for element in ElementTree.fromstring(svg).iter()
        if element.tag.endswith("text")
    ]


def test_figures_say_what_they_show():
    assert {*SUMMARY["mean_cost"], f"{SUMMARY['mean_cost']['dpo']:.2f}"} <= set(texts(FIGURES["cost"]))
    assert {*ARMS, "round", "cost paid so far"} <= set(texts(FIGURES["cumulative"]))
    assert {"late", "uniform", *ARMS} <= set(texts(FIGURES["pulls"]))
    assert {"sft", "dpo", "early", "edited text", "draft"} <= set(texts(FIGURES["training"]))


def test_the_same_data_give_the_same_figure():
    assert cumulative_figure(cost_table(ROWS)) == FIGURES["cumulative"]


def test_a_loss_is_shown_where_no_log_probability_is_known():
    assert "loss" in texts(training_figure({"rl": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]}))


def test_a_policy_keeps_its_colour_under_its_full_name():
    assert colour("email/sft@3") == colour("sft") == COLOURS["sft"]
    assert colour("mine").startswith("#")
