/* The scanners of the pre-tokenisers against their regular expressions, run by PCRE2, on random text; and against themselves
 * when the text comes in pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "gguf_writer.h"
#include "runtime/pretoken.h"

static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"};
enum { NAMES = 5, TEXT = 160 };

static pcre2_code *compile(const char *pattern)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    if (!re)
        fail_msg("PCRE2 error %d at %zu of %s", code, (size_t)at, pattern);
    return re;
}

static const struct pretoken *find(const char *name)
{
    const struct pretoken *p = pretoken_find(name, strlen(name));
    assert_non_null(p);
    return p;
}

/* Whether PCRE2 and the table put a character into the same class. PCRE2 may know another version of Unicode. */
struct same_class {
    pcre2_code *re[3]; /* letter, number, punctuation */
    pcre2_match_data *match;
    struct char_classes classes;
};

static bool class_is_same(const struct same_class *s, uint32_t code)
{
    static const enum char_class class[] = {CHAR_LETTER, CHAR_NUMBER, CHAR_PUNCT};
    char text[4];
    size_t len = (size_t)utf8_encode(code, text);
    for (int i = 0; i < 3; i++) {
        bool ours = char_class_of(&s->classes, code) == class[i];
        if (ours != (pcre2_match(s->re[i], (PCRE2_SPTR)text, len, 0, 0, s->match, NULL) > 0))
            return false;
    }
    return true;
}

static void same_class_open(struct same_class *s)
{
    static const char *const pattern[] = {"\\p{L}", "\\p{N}", "\\p{P}"};
    for (int i = 0; i < 3; i++)
        s->re[i] = compile(pattern[i]);
    s->match = pcre2_match_data_create(1, NULL);
    char_classes_init(&s->classes);
}

static void same_class_close(struct same_class *s)
{
    for (int i = 0; i < 3; i++)
        pcre2_code_free(s->re[i]);
    pcre2_match_data_free(s->match);
}

static void classes_are_those_of_unicode(void **state)
{
    struct same_class s;
    char version[64];
    int differ = 0;
    same_class_open(&s);
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    for (uint32_t c = 0; c < 0x110000; c++)
        if (c < 0xd800 || c > 0xdfff)
            differ += !class_is_same(&s, c);
    /* Characters that came with Unicode 15, 15.1 and 16, and with what may come after. */
    int allowed = !strncmp(version, "16.", 3) ? 0 : 12000;
    if (differ > allowed)
        fail_msg("%d characters differ from PCRE2 with Unicode %s", differ, version);
    for (uint32_t c = 0; c < 0x3100; c++)
        assert_int_equal(char_class_of(&s.classes, c) == CHAR_SPACE,
                         (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
                             (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
                             c == 0x3000);
    same_class_close(&s);
}

/* A random text of pieces that the rules care for. */
static size_t random_text(const struct same_class *s, uint64_t *seed, char *text)
{
    static const char *const piece[] = {" ",
                                        " ",
                                        "  ",
                                        "\n",
                                        "\r\n",
                                        "\t",
                                        "\xc2\xa0",
                                        "\xe3\x80\x80",
                                        "\xe2\x80\xa8",
                                        "'s",
                                        "'S",
                                        "'ll",
                                        "'LL",
                                        "'re",
                                        "'vE",
                                        "'d",
                                        "'\xc5\xbf",
                                        "'",
                                        "''",
                                        "a",
                                        "bc",
                                        "Word",
                                        "\xc3\xa9",
                                        "1",
                                        "23",
                                        "456",
                                        "7890",
                                        "\xe0\xa5\xa7",
                                        "\xc2\xbd",
                                        ".",
                                        "!?",
                                        "$",
                                        "+",
                                        "`",
                                        "~",
                                        "\xc2\xa9",
                                        "\xcc\x81",
                                        "\xe4\xb8\xad",
                                        "\xf0\x9f\x98\x80",
                                        "\xe1\xa0\x8e",
                                        "("};
    size_t len = 0, pieces = (size_t)random_int(seed, 1, 30);
    while (pieces-- > 0) {
        char one[8];
        if (random_int(seed, 0, 9) > 0) {
            strcpy(one, piece[random_int(seed, 0, sizeof piece / sizeof *piece - 1)]);
        } else {
            uint32_t code;
            do
                code = (uint32_t)random_int(seed, 1, random_int(seed, 0, 1) ? 0x10ffff : 0x2fff);
            while ((code >= 0xd800 && code < 0xe000) || !class_is_same(s, code));
            one[utf8_encode(code, one)] = 0;
        }
        if (len + strlen(one) > TEXT)
            break;
        memcpy(text + len, one, strlen(one));
        len += strlen(one);
    }
    return len;
}

static void show(const char *what, const char *text, size_t len)
{
    print_error("%s: ", what);
    for (size_t i = 0; i < len; i++)
        print_error(text[i] > ' ' && text[i] <= '~' ? "%c" : "\\x%02x", (unsigned char)text[i]);
    print_error("\n");
}

static void scanners_cut_as_their_expressions_do(void **state)
{
    struct same_class s;
    char text[TEXT];
    same_class_open(&s);
    for (int r = 0; r < NAMES; r++) {
        const struct pretoken *p = find(names[r]);
        struct char_classes classes;
        pcre2_code *re = compile(p->pattern);
        pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
        uint64_t seed = (uint64_t)r + 1;
        pretoken_classes(p, &classes);
        for (int round = 0; round < 40000; round++) {
            size_t len = random_text(&s, &seed, text);
            enum pretoken_state at_start = PRETOKEN_FRESH;
            struct pretoken_open open;
            for (size_t at = 0; at < len;) {
                if (pcre2_match(re, (PCRE2_SPTR)text, len, at, PCRE2_ANCHORED, s.match, NULL) <= 0) {
                    show("no match", text, len);
                    fail_msg("%s: the expression matches nothing at %zu", names[r], at);
                }
                const PCRE2_SIZE *match = pcre2_get_ovector_pointer(s.match);
                size_t n = pretoken_next(p, &classes, text + at, len - at, true, &at_start, &open);
                if (n != match[1] - match[0]) {
                    show("text", text, len);
                    fail_msg("%s: at %zu the scanner takes %zu bytes, the expression %zu", names[r], at, n,
                             (size_t)(match[1] - match[0]));
                }
                at += n;
            }
        }
        pcre2_code_free(re);
    }
    same_class_close(&s);
}

/* Any bytes; text known up to a random point; and pre-tokens that are cut where `sure` allows it. */
static void pieces_change_no_cut(void **state)
{
    struct same_class s;
    char text[TEXT];
    same_class_open(&s);
    for (int r = 0; r < NAMES; r++) {
        const struct pretoken *p = find(names[r]);
        struct char_classes classes;
        uint64_t seed = 100 + (uint64_t)r;
        pretoken_classes(p, &classes);
        for (int round = 0; round < 40000; round++) {
            size_t len = random_text(&s, &seed, text), end[TEXT], ends = 0, at = 0, known = 0, next = 0;
            for (int broken = random_int(&seed, -3, 3); broken > 0; broken--)
                if (len)
                    text[random_int(&seed, 0, (int)len - 1)] = (char)random_int(&seed, 0, 255);
            enum pretoken_state from = PRETOKEN_FRESH;
            struct pretoken_open open;
            for (; at < len; end[ends++] = at)
                at += pretoken_next(p, &classes, text + at, len - at, true, &from, &open);
            for (at = 0; at < len;) {
                bool last = known == len;
                size_t n = pretoken_next(p, &classes, text + at, known - at, last, &from, &open);
                if (n == 0 && open.sure > 1 && random_int(&seed, 0, 1)) {
                    size_t cut = (size_t)random_int(&seed, 1, (int)open.sure - 1);
                    uint32_t code; /* at a character's beginning, as the encoder does */
                    size_t begin = 0;
                    while (begin < cut)
                        begin += (size_t)utf8_decode(text + at + begin, known - at - begin, &code);
                    if (begin >= open.sure)
                        continue;
                    from = pretoken_cut_state(&open, begin);
                    at += begin;
                    continue;
                }
                if (n == 0) {
                    assert_false(last);
                    known += (size_t)random_int(&seed, 1, (int)(len - known));
                    continue;
                }
                at += n;
                if (next == ends || end[next] != at) {
                    show("text", text, len);
                    fail_msg("%s: in pieces a cut falls on %zu; in one, the next falls on %zu", names[r], at,
                             next < ends ? end[next] : len);
                }
                next++;
            }
            assert_int_equal(next, ends);
        }
    }
    same_class_close(&s);
}

static void utf8_knows_what_is_valid(void **state)
{
    static const struct {
        const char *s;
        size_t len;
        int n;
        uint32_t code;
    } cases[] = {
        {"a", 1, 1, 'a'},
        {"", 1, 1, 0},
        {"\xc3\xa9", 2, 2, 0xe9},
        {"\xe2\x82\xac", 3, 3, 0x20ac},
        {"\xf4\x8f\xbf\xbf", 4, 4, 0x10ffff},
        {"\xc0\x80", 2, 1, UTF8_INVALID},
        {"\xe0\x9f\xbf", 3, 1, UTF8_INVALID},
        {"\xed\xa0\x80", 3, 1, UTF8_INVALID},
        {"\xf4\x90\x80\x80", 4, 1, UTF8_INVALID},
        {"\xf5", 1, 1, UTF8_INVALID},
        {"\x80", 1, 1, UTF8_INVALID},
        {"\xe2\x82x", 3, 1, UTF8_INVALID},
        {"\xe2\x82", 2, 0, 0},
        {"\xf0", 1, 0, 0},
        {"", 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t code = 0;
        assert_int_equal(utf8_decode(cases[i].s, cases[i].len, &code), cases[i].n);
        if (cases[i].n)
            assert_int_equal(code, cases[i].code);
    }
    for (uint32_t c = 0; c < 0x110000; c++) {
        char s[4];
        uint32_t back;
        int n = utf8_encode(c, s);
        if (c < 0xd800 || c > 0xdfff) {
            assert_int_equal(utf8_decode(s, (size_t)n, &back), n);
            assert_int_equal(back, c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_knows_what_is_valid),
        cmocka_unit_test(classes_are_those_of_unicode),
        cmocka_unit_test(scanners_cut_as_their_expressions_do),
        cmocka_unit_test(pieces_change_no_cut),
    };
    return cmocka_run_group_tests_name("pretoken", tests, NULL, NULL);
}
