"""Calibration text: manual pages without their markup, conversations, sizes."""

import random

from conftest import ADAPT  # noqa: F401  (puts the folder on the path)

import collect_text

PAGE = r'''.\" comment
.TH LS "1" "May"
.SH NAME
ls \- list directory contents
.de XX
hidden
..
.SH DESCRIPTION
List information about \fBfiles\fR \(lqhere\(rq.
.PP
.B \-a
shows \fIall\fP of them, and this sentence is long enough to be taken for a description of what it does,
since shorter ones than two hundred characters are left out of conversations as too thin to learn from.
.SH AUTHOR
Nobody
'''


def test_manual_pages_become_plain():
    text = collect_text.plain_manual(PAGE)
    assert "ls - list directory contents" in text and 'about files "here".' in text and "-a\nshows all of them" in text
    assert "hidden" not in text and "\\f" not in text and ".SH" not in text


def test_conversations(tmp_path):
    (tmp_path / "ls.1").write_text(PAGE)
    (tmp_path / "m.py").write_text("def add(a, b):\n    \"\"\"Adds two numbers.\n\n    " + "Long words. " * 20
                                   + "\"\"\"\n    return a + b\n")
    rng = random.Random(0)
    question, answer = collect_text.manual_turns(tmp_path / "ls.1", rng)[0]
    assert "ls" in question and "List information" in answer and "Nobody" not in answer
    turns = collect_text.function_turns(tmp_path / "m.py", rng)
    assert len(turns) == 1 and "Adds two numbers" in "".join(turns[0])
    talk = collect_text.conversation(turns, rng)
    assert talk.count("<|im_start|>") == talk.count("<|im_end|>") >= 2


def test_a_text_is_never_larger_than_asked_and_its_sources_are_named(tmp_path):
    text = collect_text.Collection(100)
    text.add("a", "x" * 70)
    text.add("b", "y" * 70)
    assert text.full() and [s["name"] for s in text.sources] == ["a", "b"]
    record = text.write(tmp_path / "t.txt")
    assert record["bytes"] == (tmp_path / "t.txt").stat().st_size <= 104
