#include "pretoken.h"

#include <stdint.h>
#include <string.h>

/* White space as Unicode has it. PCRE2's own \s also takes U+180E, which has not been a space since Unicode 6.3. */
#define S "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define P "\\p{P}$+<=>^~|"
/* The parts after contractions and numbers; a run of white space gives its last one away unless `end` follows. */
#define GPT2(end) " ?\\p{L}+| ?[^" S "\\p{L}\\p{N}]+|[" S "]+(?![^" S end "])|[" S "]+"
#define LLAMA3(digits)                                                                                                 \
    "'[sS\\x{17f}]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits        \
    "| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|[" S "]*[\\r\\n]+|[" S "]+(?![^" S "])|[" S "]+"

/* Those that cut in several passes in their original form (smollm: digits, then GPT-2's expression; default: punctuation,
 * GPT-2's, numbers, threes of digits) are written as one expression with the same cuts. */
static const struct pretoken gpt2 = {
    .rules = PRETOKEN_GPT2,
    .pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{N}+|" GPT2(""),
};
static const struct pretoken smollm = {
    .rules = PRETOKEN_SMOLLM,
    .pattern = "\\p{N}|'s|'t|'re|'ve|'m|'ll|'d|" GPT2("\\p{N}"),
};
static const struct pretoken llama3 = {
    .rules = PRETOKEN_LLAMA3,
    .whole_words = true,
    .adds_bos = true,
    .pattern = LLAMA3("{1,3}"),
};
/* Qwen2's tokenizer.json also puts text into Unicode's composed form first. A GGUF file does not ask for that; like llama.cpp, weir
 * leaves the text as it is. */
static const struct pretoken qwen2 = {
    .rules = PRETOKEN_QWEN2,
    .pattern = LLAMA3(""),
};
static const struct pretoken fallback = {
    .rules = PRETOKEN_DEFAULT,
    .pattern =
        "[" P "]+| ?\\p{L}+|[0-9]{3}|(?:(?![0-9]{3})\\p{N})+| ?[^" S P "\\p{L}\\p{N}]+|[" S "]+(?![^" S P "])|[" S "]",
};
#undef S
#undef P

static const struct {
    const char *name;
    const struct pretoken *p;
} table[] = {
    {"gpt-2", &gpt2},       {"smollm", &smollm},          {"starcoder", &smollm}, {"refact", &smollm},
    {"command-r", &smollm}, {"llama-bpe", &llama3},       {"llama3", &llama3},    {"llama-v3", &llama3},
    {"qwen2", &qwen2},      {"deepseek-r1-qwen", &qwen2}, {"default", &fallback},
};

const struct pretoken *pretoken_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strlen(table[i].name) == len && !memcmp(table[i].name, name, len))
            return table[i].p;
    return NULL;
}

void pretoken_classes(const struct pretoken *p, struct char_classes *c)
{
    char_classes_init(c);
    if (p->rules == PRETOKEN_DEFAULT)
        for (const char *s = "$+<=>^~|"; *s; s++)
            c->low[(unsigned char)*s] = CHAR_PUNCT;
}

enum { LOOK_END = 5, LOOK_MORE = 6 }; /* beside the classes: the text ends here; what follows is not known yet */
#define BIT(class) (1u << (class))
enum {
    LETTERS = BIT(CHAR_LETTER),
    NUMBERS = BIT(CHAR_NUMBER),
    SPACES = BIT(CHAR_SPACE),
    PUNCTS = BIT(CHAR_PUNCT),
    SYMBOLS = BIT(CHAR_OTHER) | BIT(CHAR_PUNCT),
};

struct text {
    const char *s;
    size_t len;
    bool last;
    const struct char_classes *classes;
};

/* Class of the character at i, and its length. */
static inline int look(const struct text *t, size_t i, int *n)
{
    *n = 0;
    if (i >= t->len)
        return t->last ? LOOK_END : LOOK_MORE;
    unsigned char b = (unsigned char)t->s[i];
    if (b < 0x80) {
        *n = 1;
        return t->classes->low[b];
    }
    uint32_t code;
    *n = utf8_decode(t->s + i, t->len - i, &code);
    if (*n == 0) {
        if (!t->last)
            return LOOK_MORE;
        *n = 1;
        return CHAR_OTHER;
    }
    return (int)char_class_of(t->classes, code);
}

/* End of the run of characters of the classes in `mask` from i on; *stop is what ends it. */
static inline size_t run(const struct text *t, size_t i, unsigned mask, int *stop)
{
    for (;;) {
        while (i < t->len && (unsigned char)t->s[i] < 0x80 && BIT(t->classes->low[(unsigned char)t->s[i]]) & mask)
            i++;
        int n;
        *stop = look(t, i, &n);
        if (*stop >= LOOK_END || !(BIT(*stop) & mask))
            return i;
        i += (size_t)n;
    }
}

static size_t line_ends(const struct text *t, size_t i)
{
    while (i < t->len && (t->s[i] == '\r' || t->s[i] == '\n'))
        i++;
    return i;
}

/* Start of the character that ends at `end` > 0, in valid UTF-8. */
static size_t before(const struct text *t, size_t end)
{
    do
        end--;
    while (end > 0 && ((unsigned char)t->s[end] & 0xc0) == 0x80);
    return end;
}

static size_t open_run(struct pretoken_open *open, size_t sure)
{
    *open = (struct pretoken_open){.sure = sure, .tail = SIZE_MAX};
    return 0;
}

static size_t open_symbols(struct pretoken_open *open, size_t sure, size_t tail)
{
    *open = (struct pretoken_open){.sure = sure, .tail = tail, .symbols = true};
    return 0;
}

/* A whole run, or open where it may go on. */
static size_t whole_run(const struct text *t, size_t i, unsigned mask, struct pretoken_open *open)
{
    int stop;
    size_t end = run(t, i, mask, &stop);
    return stop != LOOK_MORE ? end : mask == SYMBOLS ? open_symbols(open, end, SIZE_MAX) : open_run(open, end);
}

/* Length of 's 't 're 've 'm 'll 'd after the apostrophe at 0; 0: none; -1: not known yet. `fold`: in either case, and with
 * U+017F, whose capital is S. */
static int contraction(const struct text *t, bool fold)
{
    char c[3] = "";
    for (size_t i = 1; i < 3 && i < t->len; i++)
        c[i] = fold && t->s[i] >= 'A' && t->s[i] <= 'Z' ? (char)(t->s[i] + ('a' - 'A')) : t->s[i];
    if (t->len < 2)
        return t->last ? 0 : -1;
    if (c[1] == 's' || c[1] == 't' || c[1] == 'm' || c[1] == 'd')
        return 2;
    bool two = c[1] == 'r' || c[1] == 'v' || c[1] == 'l' || (fold && c[1] == '\xc5');
    if (!two)
        return 0;
    if (t->len < 3)
        return t->last ? 0 : -1;
    if (c[1] == '\xc5')
        return c[2] == '\xbf' ? 3 : 0;
    return c[2] == (c[1] == 'l' ? 'l' : 'e') ? 3 : 0;
}

/* A run of white space leaves its last character to what follows, unless that is the end or a class of `closing`. */
static size_t spaces(const struct text *t, unsigned closing, struct pretoken_open *open)
{
    int stop;
    size_t end = run(t, 0, SPACES, &stop), keep = before(t, end);
    if (stop == LOOK_MORE)
        return open_run(open, keep);
    return stop == LOOK_END || BIT(stop) & closing || keep == 0 ? end : keep;
}

static size_t next_gpt2(const struct text *t, bool digits, struct pretoken_open *open)
{
    int n, class = look(t, 0, &n);
    if (t->s[0] == '\'') {
        int len = contraction(t, false);
        if (len)
            return len > 0 ? (size_t)len : open_run(open, 0);
    }
    size_t i = 0;
    if (t->s[0] == ' ') {
        int m, after = look(t, 1, &m);
        if (after == LOOK_MORE)
            return open_run(open, 0);
        if (after != CHAR_SPACE && after != LOOK_END && !(digits && after == CHAR_NUMBER)) {
            i = 1;
            class = after;
        }
    }
    switch (class) {
    case LOOK_MORE:
        return open_run(open, 0);
    case CHAR_SPACE:
        return spaces(t, digits ? NUMBERS : 0, open);
    case CHAR_LETTER:
        return whole_run(t, i, LETTERS, open);
    case CHAR_NUMBER:
        return digits ? (size_t)n : whole_run(t, i, NUMBERS, open);
    default:
        return whole_run(t, i, SYMBOLS, open);
    }
}

/* Symbols from i on and the line ends behind them. */
static size_t symbols_and_line_ends(const struct text *t, size_t i, struct pretoken_open *open)
{
    int stop;
    size_t end = run(t, i, SYMBOLS, &stop);
    if (stop == LOOK_MORE)
        return open_symbols(open, end, SIZE_MAX);
    size_t tail = line_ends(t, end);
    return tail == t->len && !t->last ? open_symbols(open, tail, end) : tail;
}

static size_t spaces_llama3(const struct text *t, struct pretoken_open *open)
{
    int stop;
    size_t end = run(t, 0, SPACES, &stop), keep = before(t, end), line = end;
    while (line > 0 && t->s[line - 1] != '\n' && t->s[line - 1] != '\r')
        line--;
    if (stop == LOOK_MORE)
        return open_run(open, line ? line : keep);
    if (line)
        return line;
    return stop == LOOK_END || keep == 0 ? end : keep;
}

static size_t next_llama3(const struct text *t, int max_digits, struct pretoken_open *open)
{
    int n, class = look(t, 0, &n), m;
    if (class == LOOK_MORE)
        return open_run(open, 0);
    if (t->s[0] == '\'') {
        int len = contraction(t, true);
        if (len)
            return len > 0 ? (size_t)len : open_run(open, 0);
    }
    if (class == CHAR_LETTER)
        return whole_run(t, 0, LETTERS, open);
    if (class == CHAR_NUMBER) {
        size_t end = (size_t)n;
        for (int i = 1; i < max_digits; i++) {
            int next = look(t, end, &m);
            if (next == LOOK_MORE)
                return open_run(open, 0);
            if (next != CHAR_NUMBER)
                break;
            end += (size_t)m;
        }
        return end;
    }
    int after = look(t, (size_t)n, &m);
    if (after == LOOK_MORE)
        return open_run(open, 0);
    if (after == CHAR_LETTER && t->s[0] != '\r' && t->s[0] != '\n')
        return whole_run(t, (size_t)n, LETTERS, open);
    if (class != CHAR_SPACE)
        return symbols_and_line_ends(t, 0, open);
    if (t->s[0] == ' ' && (after == CHAR_OTHER || after == CHAR_PUNCT))
        return symbols_and_line_ends(t, 1, open);
    return spaces_llama3(t, open);
}

/* Threes of ASCII digits, and the runs of other numbers between them. */
static size_t numbers_default(const struct text *t, struct pretoken_open *open)
{
    size_t i = 0, digits = 0; /* ASCII digits right before i */
    for (;;) {
        int n, class = look(t, i, &n);
        if (class == LOOK_MORE)
            return open_run(open, i - digits);
        if (class != CHAR_NUMBER)
            return i;
        i += (size_t)n;
        digits = n == 1 ? digits + 1 : 0;
        if (digits == 3)
            return i == 3 ? 3 : i - 3;
    }
}

static size_t next_default(const struct text *t, struct pretoken_open *open)
{
    int n, class = look(t, 0, &n);
    size_t i = 0;
    if (t->s[0] == ' ') {
        int m, after = look(t, 1, &m);
        if (after == LOOK_MORE)
            return open_run(open, 0);
        if (after == CHAR_LETTER || after == CHAR_OTHER) {
            i = 1;
            class = after;
        }
    }
    switch (class) {
    case LOOK_MORE:
        return open_run(open, 0);
    case CHAR_SPACE:
        return spaces(t, PUNCTS, open);
    case CHAR_LETTER:
        return whole_run(t, i, LETTERS, open);
    case CHAR_NUMBER:
        return numbers_default(t, open);
    default:
        return whole_run(t, i, class == CHAR_PUNCT ? PUNCTS : BIT(CHAR_OTHER), open);
    }
}

size_t pretoken_next(const struct pretoken *p, const struct char_classes *c, const char *s, size_t len, bool last,
                     enum pretoken_state *state, struct pretoken_open *open)
{
    const struct text t = {s, len, last, c};
    bool line_tail = p->rules == PRETOKEN_LLAMA3 || p->rules == PRETOKEN_QWEN2;
    size_t end;
    if (len == 0)
        return open_run(open, 0);
    if (*state == PRETOKEN_TAIL) {
        end = line_ends(&t, 0);
        if (end == len && !last)
            return open_symbols(open, end, 0);
    } else if (*state == PRETOKEN_SYMBOLS) {
        end = line_tail ? symbols_and_line_ends(&t, 0, open) : whole_run(&t, 0, SYMBOLS, open);
    } else {
        end = line_tail                      ? next_llama3(&t, p->rules == PRETOKEN_LLAMA3 ? 3 : 1, open)
              : p->rules == PRETOKEN_DEFAULT ? next_default(&t, open)
                                             : next_gpt2(&t, p->rules == PRETOKEN_SMOLLM, open);
    }
    if (end)
        *state = PRETOKEN_FRESH;
    return end;
}

enum pretoken_state pretoken_cut_state(const struct pretoken_open *open, size_t q)
{
    return !open->symbols ? PRETOKEN_FRESH : q >= open->tail ? PRETOKEN_TAIL : PRETOKEN_SYMBOLS;
}
