"""Changed texts: slips of the finger and other names."""

import random

import pytest

from tokka.evaluation import perturbations


@pytest.mark.parametrize("seed", range(40))
def test_slips_change_one_word_and_never_its_first_letter(seed):
    text = "Where is my parcel number 12345?"
    changed = perturbations.typos(text, 1, random.Random(seed))
    differing = [(one, other) for one, other in zip(text.split(), changed.split(), strict=True) if one != other]
    assert len(differing) == 1
    assert differing[0][0][0] == differing[0][1][0]
    assert "12345" in changed


def test_another_name_is_another_name_everywhere_in_the_text_and_parts_of_words_stay():
    changed = perturbations.substitute("Mei and mei, Meier", ("Mei", "Ann"), random.Random(1))
    assert changed == "Ann and Ann, Meier"
