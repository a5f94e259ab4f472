"""Facts that come up again: after they were stated, not too far away, the same for the same seed."""

import random
import re

from conftest import ADAPT  # noqa: F401  (puts the folder on the path)

import hide_facts

PROSE = [f"Paragraph {i} of a long and quiet story in which nothing is worth remembering at all." for i in range(3000)]


def test_what_is_said_again_was_said_before():
    text = hide_facts.hide(PROSE, random.Random(3), farthest=20_000)
    again = list(re.finditer(r"As was said before, the (.+) of (.+) is (.+)\.\n", text))
    assert len(again) > 20
    distances = []
    for match in again:
        thing, owner, value = match.groups()
        stated = [m for m in re.finditer(re.escape(value), text[:match.start()])
                  if owner in text[m.start() - 120:m.end()] and thing in text[m.start() - 120:m.end() + 1]]
        assert stated, match.group()
        distances.append(match.start() - stated[-1].start())
    assert min(distances) >= 1000 and max(distances) <= 22_000
    assert sum(d > 5000 for d in distances) > len(distances) / 5  # far ones among them


def test_nobody_has_two_values():
    text = hide_facts.hide(PROSE, random.Random(4), farthest=20_000)
    values = {}
    for thing, owner, value in re.findall(r"For the record, the (.+) of (.+) is (.+)\.\n", text):
        assert (thing, owner) not in values
        values[thing, owner] = value
    assert len(values) > 20


def test_the_same_seed_gives_the_same_text():
    assert hide_facts.hide(PROSE, random.Random(5)) == hide_facts.hide(PROSE, random.Random(5))
    assert hide_facts.hide(PROSE, random.Random(5)) != hide_facts.hide(PROSE, random.Random(6))
