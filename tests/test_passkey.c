/* The texts of the pass key task: as long as they are asked to be, with the key where it is asked to be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/passkey.h"
#include "tokenizer_kit.h"

struct fixture {
    cJSON *vocab;
    struct kit_tokenizer kit;
    struct passkey_filler *filler;
};

static void open_fixture(struct fixture *f, const char *filler)
{
    struct err err = {""};
    f->vocab = vector_json("tokenizer_bpe.json");
    kit_open_vocab(&f->kit, f->vocab, "smollm");
    assert_int_equal(passkey_filler_open(&f->filler, f->kit.t, filler, &err), 0);
}

static void close_fixture(struct fixture *f)
{
    passkey_filler_close(f->filler);
    kit_close(&f->kit);
    cJSON_Delete(f->vocab);
}

static char *prompt_of(const struct fixture *f, int tokens, double depth)
{
    char *text;
    struct err err = {""};
    if (passkey_prompt(f->filler, tokens, depth, "40502", &text, &err))
        fail_msg("%s", err.msg);
    return text;
}

static int tokens_of(const struct fixture *f, const char *text)
{
    struct ids ids = {0};
    struct err err = {""};
    assert_int_equal(tokenizer_encode(f->kit.t, text, strlen(text), 0, &ids, &err), 0);
    int n = (int)ids.count;
    ids_free(&ids);
    return n;
}

/* Counting sentences one by one took the space behind each for a token of its own, and made texts a sixth too short. */
static void a_text_has_the_tokens_it_should_have(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    int sentence = tokens_of(&f, " There and back again.");
    const int lengths[] = {300, 1000, 4096, 6144};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int d = 0; d <= 2; d++) {
            char *text = prompt_of(&f, lengths[i], d / 2.0);
            assert_in_range(tokens_of(&f, text), lengths[i] - sentence, lengths[i]);
            free(text);
        }
    close_fixture(&f);
}

static void the_usual_words_around_the_key(void **state)
{
    static const char key[] = "The pass key is 40502. Remember it. 40502 is the pass key.", ask[] = "The pass key is";
    struct fixture f;
    double place[5]; /* of the key, in bytes */
    open_fixture(&f, NULL);
    for (int d = 0; d <= 4; d++) {
        char *text = prompt_of(&f, 4000, d / 4.0), *at = strstr(text, key);
        assert_non_null(at);
        assert_null(strstr(at + sizeof key - 1, "40502"));
        assert_int_equal(strncmp(text, "There is an important info hidden", 33), 0);
        assert_string_equal(text + strlen(text) - (sizeof ask - 1), ask);
        place[d] = (double)(at - text);
        free(text);
    }
    for (int d = 0; d <= 4; d++) /* the depth is a share of the filler, to a sentence */
        assert_true(fabs((place[d] - place[0]) / (place[4] - place[0]) - d / 4.0) < 0.02);
    close_fixture(&f);
}

/* Whatever was made before: the search begins where the last one ended. */
static void a_text_depends_on_nothing_before_it(void **state)
{
    struct fixture used, fresh;
    static const int lengths[] = {1000, 3000, 3000, 2990, 250, 900, 905, 300, 260};
    open_fixture(&used, NULL);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        open_fixture(&fresh, NULL);
        char *a = prompt_of(&used, lengths[i], 0.4), *b = prompt_of(&fresh, lengths[i], 0.4);
        assert_string_equal(a, b);
        free(a);
        free(b);
        close_fixture(&fresh);
    }
    close_fixture(&used);
}

static void a_text_too_short_for_filler_is_refused(void **state)
{
    struct fixture f;
    struct err err = {""};
    char *text;
    open_fixture(&f, NULL);
    assert_int_equal(passkey_prompt(f.filler, 60, 0.5, "40502", &text, &err), -1);
    assert_non_null(strstr(err.msg, "--lengths 60"));
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_has_the_tokens_it_should_have),
        cmocka_unit_test(the_usual_words_around_the_key),
        cmocka_unit_test(a_text_depends_on_nothing_before_it),
        cmocka_unit_test(a_text_too_short_for_filler_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
