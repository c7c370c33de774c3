#ifndef WEIR_UNICODE_H
#define WEIR_UNICODE_H

/* UTF-8 as a tokenizer needs it: every byte string is a text, and every character has one of five classes. */

#include <stddef.h>
#include <stdint.h>

enum char_class { CHAR_OTHER, CHAR_LETTER, CHAR_NUMBER, CHAR_SPACE, CHAR_PUNCT }; /* \p{L} \p{N} \s \p{P} */

struct char_range {
    uint32_t first;
    uint16_t count;
    uint8_t class;
};
extern const struct char_range char_ranges[]; /* [char_range_count], ascending; all other characters are CHAR_OTHER */
extern const int char_range_count;

/* Classes of the first 65,536 code points, for speed; the rest is searched for in the ranges. */
struct char_classes {
    uint8_t low[0x10000];
};
void char_classes_init(struct char_classes *c);

/* Class of a code point; UTF8_INVALID is CHAR_OTHER. */
enum char_class char_class_of(const struct char_classes *c, uint32_t code);

enum { UTF8_INVALID = 0x110000 };

/* One character of s[0..len): returns its length and sets *code. A byte that begins no valid character (RFC 3629: overlong
 * forms, surrogates and values beyond 10FFFF are not valid) is a character of length 1 and code UTF8_INVALID. Returns 0 where
 * s ends inside a character that is valid so far, and for len = 0. */
int utf8_decode(const char *s, size_t len, uint32_t *code);

/* Writes a code point (<= 10FFFF) to out[4] and returns its length. */
int utf8_encode(uint32_t code, char *out);

#endif
