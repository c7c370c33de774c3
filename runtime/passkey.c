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
    size_t count;
    size_t fit; /* sentences of the prompt that was made last: the next one is likely to have as many */
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
    if (!f->start)
        goto fail;
    size_t begin = 0;
    for (size_t i = 0; i < len; i++) {
        if (i + 1 < len && !sentence_ends(f->text, begin, i))
            continue;
        f->start[f->count++] = begin;
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

static size_t filler_bytes(const struct passkey_filler *f, size_t sentences)
{
    size_t len = f->start[f->count], rest = sentences % f->count;
    return sentences / f->count * len + f->start[rest];
}

/* The whole text with that many sentences of filler, the caller's to free; NULL with *err where memory is out. */
static char *compose(const struct passkey_filler *f, size_t sentences, double depth, const char *line, struct err *err)
{
    size_t before = (size_t)(depth * (double)sentences + 0.5);
    char *text =
        err_alloc(strlen(hint) + filler_bytes(f, sentences) + strlen(line) + strlen(question) + 1, 1, "a prompt", err);
    if (!text)
        return NULL;
    char *at = put_filler(stpcpy(text, hint), f, 0, before);
    at = put_filler(stpcpy(at, line), f, before, sentences);
    strcpy(at, question);
    return text;
}

/* How many sentences to try next: `fit` of them fit, `over` (0: none known) do not, and the prompt before had `last`. First last and
 * its neighbour, then further and further up, then halves of what is between. */
static size_t next_count(size_t fit, size_t over, size_t last)
{
    if (over == 0)
        return fit == 0 ? (last > 0 ? last : 1) : fit == last ? last + 1 : 2 * fit + 1;
    return fit == 0 && over == last && last > 1 ? last - 1 : fit + (over - fit) / 2;
}

int passkey_prompt(struct passkey_filler *f, int tokens, double depth, const char *key, char **text, struct err *err)
{
    char line[96];
    snprintf(line, sizeof line, "\nThe pass key is %s. Remember it. %s is the pass key.\n", key, key);
    /* A sentence by itself has other tokens than in the text, so the whole text is counted. */
    size_t fit = 0, over = 0;
    while (over == 0 || over - fit > 1) {
        size_t tried = next_count(fit, over, f->fit);
        char *whole = compose(f, tried, depth, line, err);
        int n = whole ? count_tokens(f->tokenizer, whole, strlen(whole), err) : -1;
        free(whole);
        if (n < 0)
            return -1;
        *(n <= tokens ? &fit : &over) = tried;
    }
    if (fit == 0)
        return err_set(err, "--lengths %d: leaves no room for filler", tokens);
    f->fit = fit;
    *text = compose(f, fit, depth, line, err);
    return *text ? 0 : -1;
}
