#ifndef WEIR_PRETOKEN_H
#define WEIR_PRETOKEN_H

/* Pre-tokenisers of byte-level BPE models: where a text is cut before anything is merged. Each is defined by a regular
 * expression and carried out by a hand-written scanner, which is several times as fast, works on any bytes (one that is no
 * valid UTF-8 counts as a symbol), and knows when more text could still change a cut. tests/test_pretoken.c holds the scanners
 * to the expressions, run by PCRE2. */

#include <stdbool.h>
#include <stddef.h>

#include "unicode.h"

enum pretoken_rules { PRETOKEN_GPT2, PRETOKEN_SMOLLM, PRETOKEN_LLAMA3, PRETOKEN_QWEN2, PRETOKEN_DEFAULT };

struct pretoken {
    enum pretoken_rules rules;
    bool whole_words; /* a pre-token that is itself in the vocabulary is one token, whatever the merges say (Llama 3) */
    bool adds_bos;    /* what llama.cpp assumes where the file does not say */
    const char *pattern; /* the expression, in PCRE2's syntax (PCRE2_UCP), its alternatives tried in order */
};

/* By the GGUF key tokenizer.ggml.pre; NULL for a name that is not known. */
const struct pretoken *pretoken_find(const char *name, size_t len);

/* Character classes as the rules see them. */
void pretoken_classes(const struct pretoken *p, struct char_classes *c);

/* Where the scanner stands when a pre-token was cut in two (see pretoken_open). */
enum pretoken_state {
    PRETOKEN_FRESH, /* at the beginning of a pre-token, or inside one that goes on by the same rule as it would begin */
    PRETOKEN_SYMBOLS, /* inside a run of symbols */
    PRETOKEN_TAIL,    /* inside the line ends that follow a run of symbols */
};

/* A pre-token that the text at hand does not end. Its first `sure` bytes belong to it whatever follows. It may be cut at any
 * 0 < q < sure; the rest is then scanned in the state that pretoken_cut_state gives. */
struct pretoken_open {
    size_t sure; /* bytes */
    size_t tail; /* where the line ends behind symbols begin; SIZE_MAX where there are none */
    bool symbols;
};

/* Length of the pre-token that s[0..len) begins with. `last`: no text follows. Returns 0 where the text that follows could make
 * it longer or shorter, and fills *open; never with `last` and len > 0. *state says how s begins; it is set to FRESH when a
 * length is returned. */
size_t pretoken_next(const struct pretoken *p, const struct char_classes *c, const char *s, size_t len, bool last,
                     enum pretoken_state *state, struct pretoken_open *open);

enum pretoken_state pretoken_cut_state(const struct pretoken_open *open, size_t q);

#endif
