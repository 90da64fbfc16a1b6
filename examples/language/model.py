"""Which language is this text in? A model that is plain Python, with no framework and no file beside it.

    slipway serve examples/language

It counts the small words that every language is full of. `text` BYTES [-1] -> `language` BYTES [-1] (ISO 639-1, or
`und` where no word is known), `share` FP32 [-1, 5]: the share of known words in each of da, de, en, es, fr.
"""

import re

import numpy as np

from slipway import Model

SMALL_WORDS = {
    "da": "og i at det er en til på de som ikke der jeg med har af den for et han vi var",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine ich es war",
    "en": "the of and to in a is that it was for on with he as his at be this have from not",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne",
}


class Language(Model):
    inputs = {"text": "BYTES[-1]"}
    outputs = {"language": "BYTES[-1]", "share": "FP32[-1,5]"}

    def load(self):
        self.codes = sorted(SMALL_WORDS)
        self.words = [frozenset(SMALL_WORDS[code].split()) for code in self.codes]

    def predict(self, text):
        share = np.array([self.shares(item.decode(errors="replace")) for item in text], np.float32)
        best = [self.codes[row.argmax()] if row.any() else "und" for row in share]
        return {"language": best, "share": share}

    def shares(self, text):
        found = re.findall(r"\w+", text.lower())
        return [sum(word in known for word in found) / max(len(found), 1) for known in self.words]

    def example(self, rows):
        return {"text": ["this is the text of a request"] * rows}
