import pytest

from bpfc.options import number


def test_numbers() -> None:
    assert number("8/255") == 8 / 255
    assert number("0.1") == 0.1
    for wrong in ("a", "1/0", "", "1/2/3"):
        with pytest.raises(ValueError, match="8/255"):
            number(wrong)
