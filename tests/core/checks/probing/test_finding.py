from __future__ import annotations

from transformer_foundry.core.checks.probing.drawn_graph import Node
from transformer_foundry.core.checks.probing.finding import finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.source_map import SourceLine


def test_the_fix_names_the_drawn_block_and_the_location_every_known_part() -> None:
    location = Location("mhsa_0", SourceLine("/folder/model.py", 7), Node("mhsa_0", "mhsa"), class_name="Attention")
    finding = finding_at("causality", "error", "It sees the future.", location, "set causal.")
    assert finding.where == "block mhsa_0, model.py:7, module mhsa_0 (Attention)"
    assert finding.fix == "block mhsa_0: set causal."


def test_without_a_drawn_block_the_fix_is_a_sentence() -> None:
    assert finding_at("causality", "error", "It sees.", Location(), "set causal.").fix == "Set causal."


def test_a_note_without_a_fix_stays_without_one() -> None:
    location = Location(block=Node("mhsa_0", "mhsa"))
    assert finding_at("causality", "info", "A prefix model.", location).fix == ""
