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
