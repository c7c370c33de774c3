/* weir eval passkey: a number hidden in a long text, found or not, by length and depth. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cmd.h"
#include "eval.h"
#include "passkey.h"

enum { MAX_LENGTHS = 16, MAX_DEPTHS = 100, MAX_ANSWER = 10 /* tokens */ };

struct passkey_options {
    const char *lengths, *filler;
    int depths;
    int64_t seed;
    bool json;
    int length[MAX_LENGTHS];
    int nlengths;
};

/* Outcome of one setting at one length. */
struct passkey_row {
    bool found[MAX_DEPTHS]; /* [depths], shallow to deep */
    int total;
};

/* Greedy completion of what was fed last: does it begin with the key? Stops at the first piece that differs. 1, 0, or -1 with
 * *err. */
static int answers(struct session *s, const char *key, struct err *err)
{
    size_t matched = 0;
    for (int i = 0; i < MAX_ANSWER; i++) {
        const float *logits = weir_stream_last(s->stream, err);
        if (!logits)
            return -1;
        int32_t best = 0;
        for (int32_t v = 1; v < s->model->model.shape.vocab; v++)
            best = logits[v] > logits[best] ? v : best;
        size_t len, j = 0;
        const char *piece = tokenizer_piece(s->model->tokenizer, best, &len);
        while (matched == 0 && j < len && piece[j] == ' ')
            j++;
        for (; j < len; j++) {
            if (piece[j] != key[matched])
                return 0;
            if (!key[++matched])
                return 1;
        }
        if (weir_stream_chunk(s->stream, &best, 1, err))
            return -1;
    }
    return 0;
}

/* One prompt from an empty cache. 1 found, 0 not, -1 with *err. */
static int try_prompt(struct session *s, const char *prompt, const char *key, struct err *err)
{
    struct feed feed;
    weir_stream_reset(s->stream);
    int rc = feed_open(&feed, s, 0, INT64_MAX, err);
    if (rc == 0)
        rc = feed_bos(&feed, err);
    if (rc == 0)
        rc = feed_text(&feed, prompt, strlen(prompt), true, err);
    feed_close(&feed);
    if (rc >= 0 && interrupt_seen())
        rc = err_set(err, "interrupted");
    return rc ? -1 : answers(s, key, err);
}

/* The key of one prompt: the same for all settings. */
static void make_key(char *key, int64_t seed, int tokens, int depth)
{
    uint64_t h = cascade_hash((int64_t)tokens * MAX_DEPTHS + depth, (uint64_t)seed);
    snprintf(key, PASSKEY_DIGITS + 1, "%05d", (int)(10000 + h % 90000));
}

static double depth_of(const struct passkey_options *o, int i)
{
    return o->depths > 1 ? (double)i / (o->depths - 1) : 0.5;
}

/* All lengths and depths of one setting. Returns an exit status. */
static int run_setting(struct session *s, const struct passkey_options *o, const struct passkey_filler *filler,
                       const struct eval_setting *setting, struct passkey_row *row, struct err *err)
{
    int status = session_start(s, &setting->p, NULL, err);
    if (status != CMD_OK)
        return status;
    for (int l = 0; l < o->nlengths && status == CMD_OK; l++)
        for (int d = 0; d < o->depths && status == CMD_OK; d++) {
            char key[PASSKEY_DIGITS + 1], *prompt;
            progress_line("%s: %d tokens, depth %d of %d", setting->label, o->length[l], d + 1, o->depths);
            make_key(key, o->seed, o->length[l], d);
            int found = passkey_prompt(filler, o->length[l], depth_of(o, d), key, &prompt, err);
            if (found == 0) {
                found = try_prompt(s, prompt, key, err);
                free(prompt);
            }
            if (found < 0)
                status = CMD_FAILED;
            row[l].found[d] = found == 1;
            row[l].total += found == 1;
        }
    progress_line(NULL);
    return status;
}

static int read_lengths(struct passkey_options *o, struct err *err)
{
    for (const char *at = o->lengths;; at++) {
        char *end;
        long v = strtol(at, &end, 10);
        if (end == at || v < 128 || v > INT_MAX || (*end && *end != ','))
            return err_set(err, "--lengths %s: must be a list of token counts from 128 on, like 4096,6144", o->lengths);
        if (o->nlengths == MAX_LENGTHS)
            return err_set(err, "--lengths %s: more than %d lengths", o->lengths, MAX_LENGTHS);
        o->length[o->nlengths++] = (int)v;
        if (!*end)
            return 0;
        at = end;
    }
}

static void print_table(const struct passkey_options *o, const struct eval_setting *setting,
                        struct passkey_row (*row)[MAX_LENGTHS], int n)
{
    printf("%8s  %-40s %7s  %s\n", "tokens", "setting", "found", "by depth, from the beginning to the end");
    for (int l = 0; l < o->nlengths; l++)
        for (int i = 0; i < n; i++) {
            char share[16];
            snprintf(share, sizeof share, "%d/%d", row[i][l].total, o->depths);
            printf("%8d  %-40s %7s  ", o->length[l], setting[i].label, share);
            for (int d = 0; d < o->depths; d++)
                putchar(row[i][l].found[d] ? '#' : '.');
            putchar('\n');
        }
}

static void print_json(const struct passkey_options *o, const struct eval_setting *setting,
                       struct passkey_row (*row)[MAX_LENGTHS], int n, const char *model)
{
    cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "results");
    cJSON_AddStringToObject(top, "model", model);
    for (int l = 0; l < o->nlengths; l++)
        for (int i = 0; i < n; i++) {
            cJSON *e = cJSON_CreateObject();
            cJSON_AddStringToObject(e, "setting", setting[i].label);
            cJSON_AddNumberToObject(e, "tokens", o->length[l]);
            cJSON_AddNumberToObject(e, "found", row[i][l].total);
            cJSON *by_depth = cJSON_AddArrayToObject(e, "depths");
            for (int d = 0; d < o->depths; d++) {
                cJSON *pair = cJSON_CreateObject();
                cJSON_AddNumberToObject(pair, "depth", depth_of(o, d));
                cJSON_AddBoolToObject(pair, "found", row[i][l].found[d]);
                cJSON_AddItemToArray(by_depth, pair);
            }
            cJSON_AddItemToArray(list, e);
        }
    char *text = cJSON_PrintUnformatted(top);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(top);
}

int eval_passkey(int argc, char **argv, struct err *err)
{
    struct passkey_options o = {.lengths = "4096,6144", .depths = 10, .seed = 1};
    struct option_texts compare = {.count = 0};
    struct cascade_options cascade;
    struct session_options so;
    cascade_options_init(&cascade);
    session_options_init(&so, false);
    const struct option own[] = {
        {"--lengths", NULL, OPTION_TEXT, &o.lengths, "L,..", "tokens of the whole text (4096,6144)", 0, 0, NULL},
        {"--depths", NULL, OPTION_INT, &o.depths, "D", "places of the key, from the beginning to the end (10)", 1,
         MAX_DEPTHS, NULL},
        {"--filler", NULL, OPTION_TEXT, &o.filler, "FILE", "a text to hide the key in, in place of the usual sentences",
         0, 0, NULL},
        {"--seed", NULL, OPTION_LONG, &o.seed, "K", "for the keys (1)", 0, 0, NULL},
        {"--compare", NULL, OPTION_TEXTS, &compare, "'OPTIONS'",
         "a setting, as cascade options on top of the others; may be given several times (default: a sliding window, "
         "the published "
         "rule, spans)",
         0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &o.json, NULL, "print JSON", 0, 0, NULL},
        {0},
    };
    struct options set = {
        .usage = "weir eval passkey -m MODEL [options]",
        .what = "Hides a number in a long text and asks for it: found (#) or not (.), by length and depth, for several "
                "settings.",
        .group = {{"passkey", own}, {"model", so.table}, {"cascade", cascade.table}},
    };
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (compare.count == 0)
        compare =
            (struct option_texts){{"--subcaches 1", "--span 1 --head-reduction max", "--head-reduction max", ""}, 4};
    struct eval_setting setting[EVAL_MAX_SETTINGS];
    if (read_lengths(&o, err) || eval_settings(&cascade, &compare, 0, setting, err) < 0)
        return CMD_USAGE;

    struct session s;
    struct passkey_filler *filler = NULL;
    struct passkey_row(*row)[MAX_LENGTHS] = err_calloc(EVAL_MAX_SETTINGS, sizeof *row, "results", err);
    status = row ? session_open(&s, &so, err) : CMD_FAILED;
    if (status != CMD_OK) {
        free(row);
        return status;
    }
    int n = eval_settings(&cascade, &compare, s.model->model.shape.ctx_train, setting, err);
    status = n < 0 ? CMD_USAGE : passkey_filler_open(&filler, s.model->tokenizer, o.filler, err) ? CMD_FAILED : CMD_OK;
    interrupt_catch();
    for (int i = 0; i < n && status == CMD_OK; i++)
        status = run_setting(&s, &o, filler, &setting[i], row[i], err);
    if (status == CMD_OK && o.json)
        print_json(&o, setting, row, n, gguf_path(s.model->model.gguf));
    else if (status == CMD_OK)
        print_table(&o, setting, row, n);
    passkey_filler_close(filler);
    session_close(&s);
    free(row);
    return status;
}
