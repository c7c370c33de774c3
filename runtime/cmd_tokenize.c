/* weir tokenize: the ids of a text of any length, as one JSON array. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "options.h"
#include "session.h"
#include "tokenizer.h"

/* Decimal numbers with commas between them, through a buffer of its own: printf would take longer than the tokenizer. */
struct id_writer {
    bool begun, failed;
    size_t len;
    char buf[1 << 16];
};

static void writer_flush(struct id_writer *w)
{
    if (fwrite(w->buf, 1, w->len, stdout) != w->len)
        w->failed = true;
    w->len = 0;
}

static void write_ids(struct id_writer *w, const int32_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char digits[10];
        size_t k = sizeof digits;
        uint32_t v = (uint32_t)id[i];
        do
            digits[--k] = (char)('0' + v % 10);
        while (v /= 10);
        if (sizeof w->buf - w->len < 1 + sizeof digits)
            writer_flush(w);
        if (w->begun)
            w->buf[w->len++] = ',';
        w->begun = true;
        memcpy(w->buf + w->len, digits + k, sizeof digits - k);
        w->len += sizeof digits - k;
    }
}

/* Encodes text, or what is left of f where text is NULL. */
static int tokenize(struct encoder *e, const char *text, FILE *f, const char *path, struct id_writer *w,
                    struct err *err)
{
    static char block[1 << 16];
    struct ids ids = {0};
    int failed = 0;
    size_t n;
    do {
        n = text ? strlen(text) : fread(block, 1, sizeof block, f);
        bool last = text || n == 0;
        if (!text && n == 0 && ferror(f)) {
            failed = err_set(err, "%s: %s", path, strerror(errno));
            break;
        }
        failed = encoder_push(e, text ? text : block, n, last, &ids, err);
        write_ids(w, ids.id, ids.count);
        ids.count = 0;
    } while (!failed && !text && n > 0);
    ids_free(&ids);
    return failed;
}

int cmd_tokenize(int argc, char **argv, struct err *err)
{
    const char *model = NULL, *text = NULL, *path = NULL;
    bool bos = false, special = false;
    const struct option own[] = {
        {"--model", "-m", OPTION_TEXT, &model, "MODEL",
         "a GGUF file; one that holds only a vocabulary serves (WEIR_MODEL, else what `make model` fetched)", 0, 0,
         NULL},
        {"--prompt", "-p", OPTION_TEXT, &text, "TEXT", "the text", 0, 0, NULL},
        {"--file", "-f", OPTION_TEXT, &path, "FILE", "a file of any length; - is stdin", 0, 0, NULL},
        {"--bos", NULL, OPTION_FLAG, &bos, NULL, "begin with the token that begins a text", 0, 0, NULL},
        {"--special", NULL, OPTION_FLAG, &special, NULL, "special tokens in the text become their ids", 0, 0, NULL},
        {0},
    };
    struct options o = {
        .usage = "weir tokenize -m MODEL -p TEXT|-f FILE [--bos] [--special]",
        .what = "Prints the token ids of a text as one JSON array.",
        .group = {{"tokenize", own}},
    };
    int status = options_parse(&o, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (!text == !path) {
        err_set(err, "give the text either by -p TEXT or by -f FILE");
        return CMD_USAGE;
    }

    char model_path[PATH_MAX];
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct encoder *e = NULL;
    FILE *f = NULL;
    struct id_writer *w = NULL;
    status = CMD_FAILED;
    if (session_model_path(model, model_path, sizeof model_path, err) || model_source(&g, model_path, err) ||
        tokenizer_open(&t, g, err) || encoder_open(&e, t, special ? TOKENIZE_SPECIAL : 0, err) ||
        !(w = err_calloc(1, sizeof *w, "the output", err)))
        goto done;
    if (bos && tokenizer_bos(t) < 0) {
        err_set(err, "%s: the model has no token that begins a text; leave --bos out", model_path);
        goto done;
    }
    if (path && !(f = strcmp(path, "-") ? fopen(path, "rb") : stdin)) {
        err_set(err, "%s: %s", path, strerror(errno));
        goto done;
    }
    w->buf[w->len++] = '[';
    if (bos)
        write_ids(w, &(int32_t){tokenizer_bos(t)}, 1);
    if (tokenize(e, text, f, path, w, err))
        goto done;
    if (sizeof w->buf - w->len < 2)
        writer_flush(w);
    w->buf[w->len++] = ']';
    w->buf[w->len++] = '\n';
    writer_flush(w);
    if (w->failed || fflush(stdout)) {
        err_set(err, "cannot write the ids: %s", strerror(errno));
        goto done;
    }
    status = CMD_OK;
done:
    if (f && f != stdin)
        fclose(f);
    free(w);
    encoder_close(e);
    tokenizer_close(t);
    gguf_close(g);
    return status;
}
