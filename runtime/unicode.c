#include "unicode.h"

#include <string.h>

void char_classes_init(struct char_classes *c)
{
    memset(c->low, CHAR_OTHER, sizeof c->low);
    for (const struct char_range *r = char_ranges; r < char_ranges + char_range_count; r++)
        for (uint32_t i = r->first; i < r->first + r->count && i < sizeof c->low; i++)
            c->low[i] = r->class;
}

enum char_class char_class_of(const struct char_classes *c, uint32_t code)
{
    if (code < sizeof c->low)
        return c->low[code];
    int lo = 0, hi = char_range_count;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (char_ranges[mid].first + char_ranges[mid].count <= code)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < char_range_count && code >= char_ranges[lo].first ? char_ranges[lo].class : CHAR_OTHER;
}

int utf8_decode(const char *text, size_t len, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    if (len == 0)
        return 0;
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    *code = UTF8_INVALID;
    int need = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 1;
    /* The second byte's bounds keep out overlong forms, surrogates and what lies beyond 10FFFF. */
    unsigned lo = s[0] == 0xe0   ? 0xa0
                  : s[0] == 0xf0 ? 0x90
                                 : 0x80,
             hi = s[0] == 0xed   ? 0x9f
                  : s[0] == 0xf4 ? 0x8f
                                 : 0xbf;
    uint32_t c = s[0] & (0xffu >> (need + 1));
    for (int i = 1; i < need; i++) {
        if ((size_t)i >= len)
            return 0;
        if (s[i] < lo || s[i] > hi)
            return 1;
        c = c << 6 | (s[i] & 0x3f);
        lo = 0x80;
        hi = 0xbf;
    }
    *code = c;
    return need;
}

int utf8_encode(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}
