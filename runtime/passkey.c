#include "passkey.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char hint[] =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there.\n";
static const char usual_filler[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
static const char question[] = "\nWhat is the pass key? The pass key is";

struct passkey_filler {
    const struct tokenizer *tokenizer;
    char *text;    /* owned */
    size_t *start; /* [count + 1] where each sentence begins, and the end of the last; owned */
    int *tokens;   /* [count] of each sentence by itself, at least 1; owned */
    size_t count;
};

static int count_tokens(const struct tokenizer *t, const char *text, size_t len, struct err *err)
{
    struct ids ids = {0};
    int rc = tokenizer_encode(t, text, len, 0, &ids, err);
    int n = (int)ids.count;
    ids_free(&ids);
    return rc ? -1 : n;
}

void passkey_filler_close(struct passkey_filler *f)
{
    if (!f)
        return;
    free(f->text);
    free(f->start);
    free(f->tokens);
    free(f);
}

static int read_filler(const char *path, char **text, size_t *len, struct err *err)
{
    enum { MOST = 1 << 24 };
    FILE *in = fopen(path, "rb");
    char *buf = err_alloc(MOST, 1, "the filler", err);
    int rc = -1;
    if (!in)
        err_set(err, "--filler %s: %s", path, strerror(errno));
    if (!in || !buf)
        goto done;
    *len = fread(buf, 1, MOST, in);
    if (ferror(in))
        err_set(err, "--filler %s: %s", path, strerror(errno));
    else if (*len == 0)
        err_set(err, "--filler %s: the file is empty", path);
    else
        rc = 0;
done:
    if (in)
        fclose(in);
    if (rc)
        free(buf);
    else
        *text = buf;
    return rc;
}

/* A sentence ends with the white space that follows '.', '!' or '?', and at the first white space after 400 bytes. */
static bool sentence_ends(const char *text, size_t begin, size_t i)
{
    bool stop = i > begin && (text[i - 1] == '.' || text[i - 1] == '!' || text[i - 1] == '?');
    return isspace((unsigned char)text[i]) && (stop || i - begin >= 400);
}

int passkey_filler_open(struct passkey_filler **out, const struct tokenizer *t, const char *path, struct err *err)
{
    struct passkey_filler *f = err_calloc(1, sizeof *f, "the filler", err);
    size_t len = sizeof usual_filler - 1;
    if (!f)
        return -1;
    f->tokenizer = t;
    if (path) {
        if (read_filler(path, &f->text, &len, err))
            goto fail;
    } else if (!(f->text = strdup(usual_filler))) {
        err_set(err, "out of memory");
        goto fail;
    }
    f->start = err_alloc(len + 1, sizeof *f->start, "the filler", err);
    f->tokens = err_alloc(len, sizeof *f->tokens, "the filler", err);
    if (!f->start || !f->tokens)
        goto fail;
    size_t begin = 0;
    for (size_t i = 0; i < len; i++) {
        if (i + 1 < len && !sentence_ends(f->text, begin, i))
            continue;
        int n = count_tokens(t, f->text + begin, i + 1 - begin, err);
        if (n < 0)
            goto fail;
        f->start[f->count] = begin;
        f->tokens[f->count++] = n < 1 ? 1 : n;
        begin = i + 1;
    }
    f->start[f->count] = len;
    *out = f;
    return 0;
fail:
    passkey_filler_close(f);
    return -1;
}

/* Writes sentences [from, to) and returns the end. */
static char *put_filler(char *at, const struct passkey_filler *f, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        size_t s = i % f->count, n = f->start[s + 1] - f->start[s];
        memcpy(at, f->text + f->start[s], n);
        at += n;
    }
    return at;
}

int passkey_prompt(const struct passkey_filler *f, int tokens, double depth, const char *key, char **text,
                   struct err *err)
{
    char line[96];
    snprintf(line, sizeof line, "\nThe pass key is %s. Remember it. %s is the pass key.\n", key, key);
    int a = count_tokens(f->tokenizer, hint, strlen(hint), err),
        b = count_tokens(f->tokenizer, line, strlen(line), err);
    int c = count_tokens(f->tokenizer, question, strlen(question), err);
    if (a < 0 || b < 0 || c < 0)
        return -1;
    int64_t room = (int64_t)tokens - a - b - c;
    size_t sentences = 0, bytes = strlen(hint) + strlen(line) + strlen(question) + 1;
    for (; room >= f->tokens[sentences % f->count]; sentences++) {
        size_t s = sentences % f->count;
        room -= f->tokens[s];
        bytes += f->start[s + 1] - f->start[s];
    }
    if (sentences == 0)
        return err_set(err, "--lengths %d: leaves no room for filler", tokens);
    char *at = err_alloc(bytes, 1, "a prompt", err);
    if (!at)
        return -1;
    *text = at;
    size_t before = (size_t)(depth * (double)sentences + 0.5);
    at = stpcpy(at, hint);
    at = put_filler(at, f, 0, before);
    at = stpcpy(at, line);
    at = put_filler(at, f, before, sentences);
    stpcpy(at, question);
    return 0;
}
