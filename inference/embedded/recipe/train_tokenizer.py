"""Trains a byte-level BPE of 16,384 entries with Qwen2's pre-tokenizer on packed shards (held-out packages left out)."""
import argparse
import glob
import os
import random
import tomllib

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus
from filters import LANGUAGES, SPECIAL_TOKENS
from gguf_file import PRE_TOKENIZER

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--output", required=True, help="tokenizer.json")
    parser.add_argument("--vocabulary", type=int, default=16384)
    parser.add_argument("--megabytes", type=float, default=8, help="text of each language; Python gets twice as much")
    arguments = parser.parse_args()
    with open(f"{HERE}/sources.toml", "rb") as file:
        held_out = set(tomllib.load(file)["held_out"])
    records = [r for path in sorted(glob.glob(arguments.shards)) for r in corpus.read_shard(path) if r[1] not in held_out]
    random.Random(0).shuffle(records)
    left = {language: arguments.megabytes * 1e6 * (2 if language == "python" else 1) for language in LANGUAGES}
    texts = []
    for language, _, _, text in records:
        if left[language] > 0:
            left[language] -= len(text)
            texts.append(text)
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PRE_TOKENIZER), "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=arguments.vocabulary, special_tokens=SPECIAL_TOKENS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=32, show_progress=False))
    tokenizer.save(arguments.output)
    sample = texts[:500]
    print("characters a token:", sum(map(len, sample)) / sum(len(e.ids) for e in tokenizer.encode_batch(sample)))


if __name__ == "__main__":
    main()
