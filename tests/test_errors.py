from __future__ import annotations

from pathlib import Path

import pytest

from embedkit.errors import DataError, told


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (lambda: (_ for _ in ()).throw(DataError("table 'items': no rows")), "table 'items': no rows"),
        (lambda: Path("nowhere.parquet").read_bytes(), "nowhere.parquet"),
    ],
    ids=["ours", "no file"],
)
def test_a_script_ends_with_a_sentence(capsys, error, sentence):
    @told()
    def main():
        error()

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_an_error_of_the_script_itself_keeps_its_stack():
    with pytest.raises(ZeroDivisionError), told():
        print(1 / 0)
