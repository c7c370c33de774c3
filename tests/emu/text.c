#include "text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char *emu_text_around(struct gen *g, const char *type, const char *body)
{
    static const char end[] = "/* ---- end of prelude ---- */\n";
    struct gen_param p[] = {{"d", "64"}, {"g", "1"}, {"t", type}};
    struct gen_kernel k;
    struct err err = {""};
    char *text = NULL;
    if (gen_render(g, "attn_decode", "a100", p, 3, &k, &err) != 0 || gen_host_text(g, &k, &text, &err) != 0)
        fail_msg("%s", err.msg);
    gen_kernel_free(&k);
    char *at = strstr(text, end);
    assert_non_null(at);
    size_t head = (size_t)(at - text) + strlen(end);
    char *whole = malloc(head + strlen(body) + 1);
    assert_non_null(whole);
    memcpy(whole, text, head);
    strcpy(whole + head, body);
    free(text);
    return whole;
}

char *emu_text_mutate(const char *text, const char *from, int n, const char *to)
{
    const char *at = strstr(text, from);
    for (int i = 0; i < n && at; i++)
        at = strstr(at + 1, from);
    if (!at)
        fail_msg("the kernel has no occurrence %d of '%s' any more; plant the error elsewhere", n, from);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(out);
    size_t head = (size_t)(at - text);
    memcpy(out, text, head);
    strcpy(out + head, to);
    strcat(out, at + strlen(from));
    return out;
}
