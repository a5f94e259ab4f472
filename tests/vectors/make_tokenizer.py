#!/usr/bin/env python3
"""Writes tests/vectors/tokenizer: what the package `tokenizers` makes of thousands of texts.

The vocabularies are those of the model files (argument, or $CGA_MODELS, or ~/.cache/cga/models), each under
the pre-tokenizer it names and under one it does not, so that all four are tested on large vocabularies; and
the first merges of SmolLM2's under all four, small enough to be checked in: the tests that need no model.

  texts.jsonl, special.jsonl    a JSON string a line
  NAME.ids                      for each text, its token ids; control tokens are text
  NAME.special.ids              for each special text, its token ids; control tokens are recognised
  small.merges                  "left right" a line; tokens 0 to 255 are bytes, then each merge makes one
  replaced.jsonl                bytes in hexadecimal, and the text of Python's errors="replace"
"""

import json
import os
import pathlib
import random
import sys
import unicodedata

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SEED = 20261125
N_SMALL_MERGES = 3000
OUT = pathlib.Path(__file__).parent / "tokenizer"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SENTENCES = r"""
The quick brown fox jumps over the lazy dog; it wasn't what we'd expected, they'll say.
In 1851, Melville wrote "Moby-Dick; or, The Whale" – 135 chapters, 209,117 words.
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Straße, Übergröße, naïve café.
Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë au-delà des îles.
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba a su querido cachorro?
Příliš žluťoučký kůň úpěl ďábelské ódy. Zażółć gęślą jaźń. Árvíztűrő tükörfúrógép.
Pijamalı hasta yağız şoföre çabucak güvendi. IĞDIR ırmak İstanbul
Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак і ґанок.
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ὦ ξεῖν', ἀγγέλλειν Λακεδαιμονίοις
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. ١٢٣٤٥
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। १२३ क्षत्रिय
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
我能吞下玻璃而不伤身体。二〇二六年十一月，天氣很好！「你好」他說。
いろはにほへと ちりぬるを。カタカナとひらがな、漢字が混ざった文章です。ｶﾞｷﾞｸﾞ
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 각
Nguyễn Văn Ánh đã uống cà phê sữa đá ở phố cổ Hội An.
for (int i = 0; i < n; ++i) { a[i] += b[i]*2.5e-3f; }  // in place
def f(x: int) -> str:\n    return f"{x!r:>10}"\n\n\nclass A(B):\n\tpass\n
SELECT * FROM t WHERE id='x' AND n>=10 ORDER BY 1;\r\n-- comment\r\n
<div class="a b">&nbsp;<br/></div>\n<!-- x --> $$\frac{1}{2}$$ #include <cstdio>
👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷🇯🇵 👍🏽👍🏿 ❤️ 🤷🏻‍♀️ 1️⃣ 🫠
https://example.org/a_b?c=%20d&e=f#g me@example.org C:\Windows\x.txt ~/.cache
I'M HE'S WE'VE they'RE don't DON'T 'tis o'clock '' 's'S'll'LL'ſ rock'n'roll
""".strip().splitlines()

SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u2029",
          "\u0085", "\u180e", "\u200b", "\u200d", "\ufeff", "\u202f", "\u1680", "\x0b", "\x0c", "\x1c", "\x1f"]
MARKS = "\u0301\u0308\u0327\u0323\u0307\u0338\u20dd\u0345\u3099\u05b8\u0651\u094d\ufe0f\u200d\u1161\u11a8"
BASES = "aeiouAEOUncsSKÅ Ωかハग가ᄀשλ1.-"
WORDS = ["a", "the", "Hello", "world", "x1", "don't", "I'LL", "3.14", "2026", "123456789", "½", "Ⅻ", "²³", "٣٤",
         "über", "слово", "字", "文字", "🙂", "é", "e\u0301", "...", "!?", "_", "--", "==", "({", "})", "\"", "'", "`"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
            "<repo_name>", "<reponame>", "<file_sep>", "<|im_", "<|", "|>", "<", "im_start", "<<|im_end|>>",
            "[PAD151665]"]


def assigned(text):
    """Code points that were assigned after Unicode 14 are read differently by newer libraries."""
    return "".join("?" if unicodedata.category(c) == "Cn" else c for c in text)


def make_texts(rng):
    sentences = [s.replace(r"\n", "\n").replace(r"\r", "\r").replace(r"\t", "\t") for s in SENTENCES]
    printable = [c for c in map(chr, range(0x20, 0x20000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    planes = ["".join(printable[:2000]), "".join(printable)]
    texts = ["", " ", "  ", "\n", " \n", "\n ", "a", " a", "a ", "a  ", "  a", "\t\t\ta", "0", "00 000 0000"]
    texts += sentences
    texts += [chr(c) for c in range(128)] + [" " + chr(c) + "x" for c in range(0x80, 0x100)]
    for _ in range(700):  # fragments: a window that may cut anywhere, or sentences joined
        s = rng.choice(sentences)
        a = rng.randrange(len(s))
        texts.append(s[a:a + rng.randrange(1, 40)])
    for _ in range(500):  # words and white space of all kinds
        n = rng.randrange(1, 8)
        texts.append("".join(rng.choice(SPACES) * rng.choice([0, 1, 1, 1, 2, 3]) + rng.choice(WORDS)
                             for _ in range(n)) + rng.choice(["", *SPACES]))
    for _ in range(150):
        texts.append("".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 9))))
    for _ in range(200):  # digits
        texts.append("".join(rng.choice(["0", "7", "12", "345", " ", ".", ",", "x", "  ", "\n", "५", "²"])
                             for _ in range(rng.randrange(1, 12))))
    for _ in range(250):  # combining marks, in and out of order
        texts.append("".join(rng.choice(BASES) + "".join(rng.choices(MARKS, k=rng.randrange(4)))
                             for _ in range(rng.randrange(1, 6))))
    for _ in range(150):
        texts.append("".join(chr(rng.randrange(0x30)) for _ in range(rng.randrange(1, 10))))
    for plane in planes:
        for _ in range(250):
            texts.append("".join(rng.choice(plane) for _ in range(rng.randrange(1, 10))))
    for _ in range(300):
        texts.append(rng.randbytes(rng.randrange(1, 16)).decode("utf-8", errors="replace"))
    for word in ["a", "ab", "=", "-=", " ", "\n", "é", "字", "🙂", "0", "aA1 ", "mississippi"]:
        texts += [word * n for n in (7, 31, 90)]
    return [assigned(t) for t in dict.fromkeys(texts)]


def make_special_texts(rng):
    texts = SPECIALS + [a + b for a in SPECIALS[:4] for b in SPECIALS[:4]]
    texts += ["<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n"]
    for _ in range(150):
        texts.append("".join(rng.choice([*SPECIALS, *SPECIALS, *WORDS, *SPACES]) for _ in range(rng.randrange(1, 7))))
    return list(dict.fromkeys(texts))


def byte_alphabet():
    own = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(0x100 + i) for i, b in enumerate(others)}}


def make_tokenizer(tokens, merges, pre):
    """tokens: (text, GGUF token type) by id"""
    ids = {text: i for i, (text, _) in enumerate(tokens)}
    pairs = [tuple(m.split(" ")) for m in merges]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=pre == "llama-bpe"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt2", "smollm"))
    before = {"gpt2": [], "smollm": [pre_tokenizers.Digits(individual_digits=True)],
              "llama-bpe": [pre_tokenizers.Split(Regex(LLAMA3), "isolated")],
              "qwen2": [pre_tokenizers.Split(Regex(QWEN2), "isolated")]}[pre]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, byte_level])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    control, user_defined = 3, 4
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in tokens if k == control])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t, k in tokens if k == user_defined])
    return tokenizer


def write_ids(name, tokenizer, texts, parse_special):
    tokenizer.encode_special_tokens = not parse_special
    lines = [" ".join(map(str, e.ids)) for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    (OUT / f"{name}.ids").write_text("\n".join(lines) + "\n")


def write_jsonl(name, rows):
    (OUT / name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def read_model(path):
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    return list(zip(get("tokens"), get("token_type"))), get("merges")


def main():
    models_dir = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                              os.environ.get("CGA_MODELS", "~/.cache/cga/models")).expanduser()
    smollm2 = read_model(models_dir / "SmolLM2-135M-Instruct.Q4_1.gguf")
    qwen = read_model(models_dir / "Qwen2.5-Coder-0.5B-Instruct.gguf")
    assert qwen == read_model(models_dir / "Qwen2.5-Coder-1.5B-Instruct.gguf")  # one set of ids for both

    rng = random.Random(SEED)
    OUT.mkdir(exist_ok=True)
    special = make_special_texts(rng)
    texts = make_texts(rng) + special
    write_jsonl("texts.jsonl", texts)
    write_jsonl("special.jsonl", special)

    for name, model, pre in [("smollm2", smollm2, "smollm"), ("qwen2", qwen, "qwen2"),
                             ("smollm2-gpt2", smollm2, "gpt2"), ("qwen2-llama-bpe", qwen, "llama-bpe")]:
        tokenizer = make_tokenizer(*model, pre)
        write_ids(name, tokenizer, texts, False)
        write_ids(name + ".special", tokenizer, special, True)

    merges = smollm2[1][:N_SMALL_MERGES]
    alphabet = byte_alphabet()
    tokens = [(alphabet[b], 1) for b in range(256)] + [(m.replace(" ", ""), 1) for m in merges]
    (OUT / "small.merges").write_text("\n".join(merges) + "\n")
    for pre in ("gpt2", "smollm", "llama-bpe", "qwen2"):
        write_ids(f"small-{pre}", make_tokenizer(tokens, merges, pre), texts[::2], False)

    samples = [rng.randbytes(rng.randrange(1, 12)) for _ in range(100)]
    emoji = "a👩‍👩‍👧é字".encode()
    samples += [emoji[:i] for i in range(1, len(emoji))] + [emoji[i:] for i in range(len(emoji))]
    samples += [bytes([0xf0 + rng.randrange(5), 0x80 + rng.randrange(64), rng.randrange(256)]) for _ in range(100)]
    write_jsonl("replaced.jsonl", [[s.hex(), s.decode("utf-8", errors="replace")] for s in samples])


if __name__ == "__main__":
    main()
