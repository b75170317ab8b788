"""Training lists: a query, one document that answers it, and some that do not.

A list is (query, documents, positive index, same_language, cosines: the teacher's, or None).
Everything is drawn from a random.Random handed in, so a (seed, step) pair fixes a batch.
"""
import random
import re
import string
from collections import namedtuple

import numpy as np

import manual
from words import LIMIT, WORD, fold, stem

# shares: of (query language, document language).
# manual: of the lists of a pair of languages at most so many ask the manual: in Spanish five texts
# of six are its sections, but what is evaluated are packages.
# invented: of the lists with whole documents of one language so many have invented words.
# whole: in the second part of a run the share of lists of whole documents.
Mix = namedtuple("Mix", "shares manual invented whole")
MIXES = {
    # Across languages there is most to learn.
    "across": Mix({("fr", "fr"): 12, ("en", "en"): 11, ("it", "it"): 8, ("de", "de"): 6,
                   ("pt", "pt"): 7, ("es", "es"): 7,
                   ("fr", "en"): 8, ("en", "fr"): 8, ("de", "en"): 6, ("en", "de"): 5,
                   ("it", "en"): 5, ("en", "it"): 4, ("es", "en"): 4, ("en", "es"): 3,
                   ("pt", "en"): 4, ("en", "pt"): 3, ("it", "fr"): 2, ("fr", "it"): 1,
                   ("de", "fr"): 1, ("es", "fr"): 1}, 0.4, 0.0, 0.5),
    # To end with: rare words, of which the small embeddings know little, have to match as they are.
    "within": Mix({("fr", "fr"): 16, ("en", "en"): 10, ("it", "it"): 10, ("de", "de"): 8,
                   ("pt", "pt"): 14, ("es", "es"): 12,
                   ("fr", "en"): 4, ("en", "fr"): 4, ("de", "en"): 4, ("en", "de"): 2,
                   ("it", "en"): 4, ("en", "it"): 2, ("es", "en"): 3, ("en", "es"): 1,
                   ("pt", "en"): 3, ("en", "pt"): 1, ("it", "fr"): 2}, 0.15, 0.3, 0.75),
    # With a teacher, who knows whole documents of packages.
    "taught": Mix({("fr", "fr"): 14, ("en", "en"): 12, ("it", "it"): 8, ("de", "de"): 8,
                   ("pt", "pt"): 14, ("es", "es"): 12,
                   ("fr", "en"): 5, ("en", "fr"): 5, ("de", "en"): 5, ("en", "de"): 3,
                   ("it", "en"): 4, ("en", "it"): 2, ("es", "en"): 4, ("en", "es"): 2,
                   ("pt", "en"): 4, ("en", "pt"): 2, ("it", "fr"): 2}, 0.1, 0.15, 0.85),
    # A long one: with every text asked many times, more may ask for those of which there are few.
    "long": Mix({("fr", "fr"): 13, ("en", "en"): 12, ("it", "it"): 8, ("de", "de"): 8,
                 ("pt", "pt"): 14, ("es", "es"): 16,
                 ("fr", "en"): 5, ("en", "fr"): 5, ("de", "en"): 4, ("en", "de"): 3,
                 ("it", "en"): 4, ("en", "it"): 2, ("es", "en"): 4, ("en", "es"): 4,
                 ("pt", "en"): 4, ("en", "pt"): 2, ("it", "fr"): 2, ("fr", "es"): 2,
                 ("it", "es"): 1, ("pt", "es"): 1}, 0.15, 0.12, 0.85),
    # With the Spanish of translated.py.
    "spanish": Mix({("fr", "fr"): 8, ("en", "en"): 8, ("it", "it"): 6, ("de", "de"): 6,
                    ("pt", "pt"): 9, ("es", "es"): 12, ("es~", "es~"): 34,
                    ("fr", "en"): 3, ("en", "fr"): 3, ("de", "en"): 3, ("en", "de"): 2,
                    ("it", "en"): 3, ("it", "fr"): 2, ("pt", "en"): 3, ("en", "pt"): 1,
                    ("es", "en"): 3, ("en", "es"): 2, ("es", "es~"): 3, ("es~", "en"): 3,
                    ("en", "es~"): 2, ("fr", "es~"): 1}, 0.1, 0.15, 0.85),
}



def speaks(mix, lang):
    """Do lists of the mix have this language?"""
    return any(lang in pair for pair in MIXES[mix].shares)


# Languages with few texts: each is asked again and again, and would be learnt by heart.
SCARCE = "es", "pt"

TEMPLATES = {
    "fr": ["Comment {v} {} ?", "Qu'est-ce que {} ?", "Quel logiciel pour {} ?", "je cherche {}",
           "Où trouver {} ?", "À quoi sert {} ?", "comment faire pour {v} {}", "{} c'est quoi",
           "Pourquoi utiliser {} ?", "Quelle est la différence avec {} ?", "besoin de {}",
           "Comment fonctionne {} ?", "Peut-on {v} {} ?", "{} gratuit", "Combien coûte {} ?",
           "Quels sont les avantages de {} ?", "exemple de {}", "Qui peut {v} {} ?"],
    "en": ["How to {v} {}?", "What is {}?", "which program for {}", "I am looking for {}",
           "Where can I find {}?", "how do I {v} {}", "best {}", "{} tutorial", "Why use {}?",
           "Is there {}?", "What does {} do?", "tool for {}", "How does {} work?",
           "Can I {v} {}?", "free {}", "{} example", "When should I {v} {}?"],
    "es": ["¿Cómo {v} {}?", "¿Qué es {}?", "programa para {}", "busco {}", "¿Dónde encontrar {}?",
           "¿Para qué sirve {}?", "¿Cómo funciona {}?", "¿Se puede {v} {}?", "{} gratis"],
    "pt": ["Como {v} {}?", "O que é {}?", "programa para {}", "procuro {}", "Onde encontrar {}?",
           "Para que serve {}?", "Como funciona {}?", "Posso {v} {}?", "{} grátis"],
    "it": ["Come {v} {}?", "Che cos'è {}?", "programma per {}", "cerco {}", "Dove trovo {}?",
           "A cosa serve {}?", "Come funziona {}?", "Si può {v} {}?", "{} gratis"],
    "de": ["Wie kann ich {} {v}?", "Was ist {}?", "Programm für {}", "ich suche {}", "Wo finde ich {}?",
           "Wozu dient {}?", "Wie funktioniert {}?", "Kann man {} {v}?", "{} kostenlos"],
}
VERBS = {
    "fr": "installer utiliser configurer lancer créer supprimer modifier trouver faire gérer "
          "ouvrir lire envoyer vérifier changer obtenir remplacer choisir réparer".split(),
    "en": "install use configure run create remove change find make manage open read send "
          "check get replace choose fix set up".split(),
    "es": "instalar usar configurar crear borrar cambiar encontrar abrir leer enviar elegir".split(),
    "pt": "instalar usar configurar criar apagar mudar encontrar abrir ler enviar escolher".split(),
    "it": "installare usare configurare creare eliminare cambiare trovare aprire leggere".split(),
    "de": "installieren benutzen einrichten erstellen löschen ändern finden öffnen lesen".split(),
}
SUFFIXES = {
    "fr": "er é ée és ation ations eur euse ement s es ant ent ons ez age ages if ive ique".split(),
    "en": "s ed ing er ers ion ions ation able ment ly al ity".split(),
    "it": "are ato ata ati zione zioni ore i e a o ando mente".split(),
    "de": "en e er es t ung ungen lich te ten".split(),
    "es": "ar ado ada ados ción ciones or es s ando mente".split(),
    "pt": "ar ado ada ados ção ções or es s ando mente".split(),
}
SYLLABLES = ("ba be bi bo bu ca ce ci co da de di do fa fe fi fo ga ge go ja jo la le li lo lu ma me "
             "mi mo mu na ne ni no pa pe pi po qui ra re ri ro ru sa se si so su ta te ti to tu va ve "
             "vi vo za tra pré bri cou tier mon pen lan ver gar ton cha ché dou pré fla gri").split()
SENTENCE = re.compile(r"(?<=[.!?;:])\s+(?=\S)")


def sentences(text):
    return [s for s in SENTENCE.split(text) if len(s) > 15]


def pick(rng, weights):
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def inflect(rng, word, lang):
    """Another form of the word: its head with a suffix of the language."""
    if len(word) < 6 or not word.isalpha():
        return word
    keep = max(4, len(word) - rng.randint(1, 4))
    return word[:keep] + rng.choice(SUFFIXES[lang[:2]])


def typo(rng, word):
    if len(word) < 5:
        return word
    i = rng.randrange(1, len(word) - 1)
    return rng.choice([word[:i] + word[i + 1:], word[:i] + word[i + 1] + word[i] + word[i + 2:]])


def rewrite(rng, text, lang):
    """What somebody might type: fewer words, other order, forms, case, accents."""
    tokens = text.split()
    drop = rng.choice([0, 0, 0.15, 0.35])
    kept = [t for t in tokens if rng.random() >= drop] or tokens
    if rng.random() < 0.15:
        rng.shuffle(kept)
    change = rng.choice([0, 0.2, 0.5])
    out = []
    for t in kept:
        if rng.random() < change:
            t = WORD.sub(lambda m: inflect(rng, m.group(), lang), t)
        if rng.random() < 0.02:
            t = typo(rng, t)
        out.append(t)
    out = " ".join(out)
    if rng.random() < 0.4:
        out = out.lower()
    if rng.random() < 0.3:
        out = "".join(fold(c) if c.islower() else c for c in out)
    elif rng.random() < 0.1:
        out = out[:1].upper() + out[1:]
    return out


def ask(rng, text, lang):
    """Put the text into a question of the language"""
    text = text.rstrip(".")
    form = rng.choice(TEMPLATES[lang[:2]]).replace("{v}", rng.choice(VERBS[lang[:2]]))
    return form.format(text) if form.count("{}") == 1 else text


def fresh_word(rng):
    """An invented word: syllables or, as in acronyms and the names of files, any letters"""
    if rng.random() < 0.65:
        return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4)))
    letters = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(3, 6)))
    return rng.choice((str.upper, str.lower, str.capitalize))(letters) + rng.choice(("", "", "", "2"))


def worn(rng, text):
    """The text with gaps: some sentences and words are missing"""
    gaps, holes = rng.choice([0, 0.15, 0.3]), rng.choice([0, 0.05, 0.1])
    parts = sentences(text) or [text]
    kept = [p for p in parts if rng.random() >= gaps] or [rng.choice(parts)]
    return " ".join(w for w in " ".join(kept).split() if rng.random() >= holes) or text


class Maker:
    def __init__(self, entries, neighbours, idf, mix="across", vectors=None):
        """neighbours: per language one or more arrays of ids of the entries that BM25 finds for
        each entry; idf: per stem; vectors: the teacher's (teacher.py)"""
        self.entries, self.near, self.idf, self.mix = entries, neighbours, idf, MIXES[mix]
        self.vectors = vectors
        self.having = {p: ([], []) for p in self.mix.shares}  # packages and sections of the manual
        for i, e in enumerate(entries):
            for pair in self.having:
                if pair[0] in e.text and pair[1] in e.text:
                    self.having[pair][manual.is_section(e)].append(i)
        self.alike = {}  # by language and whether they are sections
        for i, e in enumerate(entries):
            for lang in e.text:
                self.alike.setdefault((lang, manual.is_section(e)), []).append(i)

    def entry(self, rng, pair):
        """Number of an entry that has text in both languages"""
        packages, sections = self.having[pair]
        share = min(self.mix.manual, len(sections) / (len(packages) + len(sections)))
        return rng.choice(sections if rng.random() < share else packages)

    def keywords(self, rng, text):
        """2-5 words of the text, rare ones preferred"""
        found = {stem(w): w for w in WORD.findall(text)[:120] if stem(w)}
        rare = sorted(found, key=lambda s: -self.idf.get(s, 9.0) * rng.random())
        return " ".join(found[s] for s in rare[:rng.randint(2, 5)]) or text[:40]

    def query(self, rng, entry, lang, doc_lang, plain):
        """(query, long text of the document in doc_lang, does it ask with the short text?)"""
        short, long = entry.text[lang]
        target = entry.text[doc_lang][1]
        if plain and rng.random() < plain:
            return short, target, True
        kind = rng.random()
        if kind < 0.50:
            q = rewrite(rng, short, lang)
            if rng.random() < 0.35:
                q = ask(rng, q, lang)
            if rng.random() < 0.08:
                q = entry.name + " " + q
            return q, target, True
        if kind < 0.68:
            q = rewrite(rng, self.keywords(rng, long), lang)
            return (ask(rng, q, lang) if rng.random() < 0.4 else q), target, False
        parts = sentences(long)
        if len(parts) < 2:
            return rewrite(rng, short, lang), target, True
        i = rng.randrange(len(parts))
        q = " ".join(parts[i].split()[:rng.randint(4, 14)])
        # Half of the time the rest of the text has to do without the sentence.
        if lang == doc_lang and rng.random() < 0.5:
            target = " ".join(parts[:i] + parts[i + 1:])
        q = self.keywords(rng, q) if rng.random() < 0.3 else q
        q = rewrite(rng, q, lang)
        return (ask(rng, q, lang) if rng.random() < 0.3 else q), target, False

    def window(self, rng, text, limit, query=None):
        """At most about `limit` words; for a positive the part that has most of the query."""
        parts = sentences(text) or [text]
        goal = rng.choice([limit, limit, limit // 2, limit // 4])
        start = rng.randrange(len(parts)) if rng.random() < 0.5 else 0
        if query:
            want = {stem(w) for w in WORD.findall(query)} - {""}
            hits = [len(want & {stem(w) for w in WORD.findall(p)}) for p in parts]
            if max(hits) > 0:
                start = hits.index(max(hits))
            elif start:
                start = 0  # the first sentence says what the package is
        words = []
        for p in parts[start:]:
            words += p.split()
            if len(words) >= goal:
                break
        return " ".join(words[:max(goal, 8)])

    def negatives(self, rng, i, lang, count, hard):
        """Numbers of other packages in the language: BM25's, its best more often, or any"""
        out, tries = [], 0
        near = rng.choice(self.near[lang])[i]
        alike = self.alike[lang, manual.is_section(self.entries[i])]
        while len(out) < count:
            tries += 1
            j = rng.choice(alike)
            if tries < 3 * count and rng.random() < hard:
                j = near[int(len(near) * rng.random() ** 1.5)]
            if self.entries[j].source != self.entries[i].source and j not in out:
                out.append(j)
        return out

    def cosines(self, i, others):
        """The teacher's, of entry i's short text and the long ones of i and the others; None where
        it does not know all of them"""
        if self.vectors is None:
            return None
        asked, found = self.vectors[0][i], self.vectors[1][[i] + others]
        if not asked.any() or not found.any(1).all():
            return None
        return found.astype(np.float32) @ asked.astype(np.float32)

    def swap_words(self, rng, query, docs):
        """Replace a word of the query and of document 0 by an invented one, so that matching
        is learnt for any string; the other documents get invented words of their own."""
        seen = {stem(w) for w in WORD.findall(docs[0])} - {""}
        shared = [w for w in WORD.findall(query) if stem(w) in seen and w.isalpha()]
        if not shared:
            return query, docs
        for target in rng.sample(shared, min(len(shared), rng.randint(1, 3))):
            root, ends = fresh_word(rng), ["", "", "s", "e", "er", "ation"]
            same = stem(target)
            query = replace_stem(query, same, root + rng.choice(ends))
            docs = [replace_stem(docs[0], same, root + rng.choice(ends))] + [
                replace_stem(d, stem(rng.choice(WORD.findall(d) or ["x"])), fresh_word(rng))
                for d in docs[1:]]
        return query, docs

    def candidates(self, rng, negatives, hard, plain):
        """A list like the evaluation's: whole descriptions up to LIMIT characters"""
        lang, doc_lang = pair = pick(rng, self.mix.shares)
        i = self.entry(rng, pair)
        again = doc_lang in SCARCE and rng.random() < 0.6
        query, target, short = self.query(rng, self.entries[i], lang, doc_lang,
                                          plain * (1 - 0.6 * again))
        others = self.negatives(rng, i, doc_lang, negatives, hard)
        cosines = self.cosines(i, others) if short else None
        docs = [target] + [self.entries[j].text[doc_lang][1] for j in others]
        docs = [(worn(rng, d) if again else d)[:LIMIT] for d in docs]
        if self.mix.invented and lang == doc_lang and rng.random() < self.mix.invented:
            query, docs = self.swap_words(rng, query, docs)
            cosines = None
        return query, docs, lang == doc_lang, cosines

    def passages(self, rng, negatives, hard, limit, plain):
        """A list of short passages, freer than the evaluation's"""
        lang, doc_lang = pair = pick(rng, self.mix.shares)
        i = self.entry(rng, pair)
        entry, same = self.entries[i], lang == doc_lang
        query, target, _ = self.query(rng, entry, lang, doc_lang, plain)
        docs = [self.window(rng, target, limit, query if same else None)]
        for j in self.negatives(rng, i, doc_lang, negatives, hard):
            short, long = self.entries[j].text[doc_lang]
            docs.append(self.window(rng, long, limit, query if same and rng.random() < 0.5 else None))
            if rng.random() < 0.1:
                docs[-1] = short + ". " + docs[-1]
        if rng.random() < 0.1:
            docs[0] = entry.text[doc_lang][0] + ". " + docs[0]
        if same and rng.random() < 0.25:
            query, docs = self.swap_words(rng, query, docs)
        if not same and rng.random() < 0.25:
            # One distractor in the query's own language: language is no evidence.
            j, = self.negatives(rng, i, lang, 1, hard)
            docs[-1] = self.window(rng, self.entries[j].text[lang][1], limit)
        return query, docs, same, None

    def make(self, rng, negatives, hard, limit, plain=0.0):
        """(query, documents, number of the right one, one language?, cosines); limit 0: whole
        documents"""
        query, docs, same, cosines = (self.passages(rng, negatives, hard, limit, plain) if limit
                                      else self.candidates(rng, negatives, hard, plain))
        order = list(range(len(docs)))
        rng.shuffle(order)
        return (query, [docs[k] for k in order], order.index(0), same,
                None if cosines is None else cosines[order])


def replace_stem(text, same, new):
    return WORD.sub(lambda m: new if same and stem(m.group()) == same else m.group(), text)


def batch(maker, seed, step, numbers, negatives, hard, limit, plain=0.0):
    """The lists with these numbers of a step; each has a generator of its own, so it does not
    matter which of several workers makes it."""
    return [maker.make(random.Random("%d %d %d" % (seed, step, n)), negatives, hard, limit, plain)
            for n in numbers]
