from __future__ import annotations

import pytest

from transformer_foundry.console.service_keys import KEYS
from transformer_foundry.core.base.secrets import is_secret_name


@pytest.mark.parametrize("variable", [key.variable for key in KEYS])
def test_the_key_of_a_service_is_redacted_by_its_name(variable: str) -> None:
    assert is_secret_name(variable)
