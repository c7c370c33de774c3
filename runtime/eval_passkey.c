/* weir eval passkey: a number hidden in a long text, found or not, by length and depth. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <cJSON.h>

#include "cmd.h"
#include "eval.h"
#include "passkey.h"

enum { MAX_DEPTHS = 100, MAX_SEEDS = 64, MAX_ANSWER = 10 /* tokens */ };

struct passkey_options {
    const char *lengths, *filler;
    int depths, seeds;
    int64_t seed;
    bool json;
    int length[EVAL_MAX_LENGTHS];
    int nlengths;
};

/* Outcome of one setting at one length. */
struct passkey_row {
    uint64_t found[MAX_DEPTHS]; /* [depths], shallow to deep: bit i of the key of seed + i */
};

static int count_bits(uint64_t v)
{
    return __builtin_popcountll(v);
}

/* Greedy completion of what was fed last: does it begin with the key? Stops at the first piece that differs. 1, 0, or -1 with
 * *err. */
static int answers(struct session *s, const char *key, struct err *err)
{
    size_t matched = 0;
    for (int i = 0; i < MAX_ANSWER; i++) {
        int32_t best;
        if (weir_stream_sample(s->stream, &best, weir_error_of(err)))
            return -1;
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

/* All depths of one setting at one length, with a key for each seed. Returns 0 or -1. */
static int run_length(struct session *s, const struct passkey_options *o, struct passkey_filler *filler,
                      const char *label, int tokens, struct passkey_row *row, struct err *err)
{
    for (int d = 0; d < o->depths; d++)
        for (int k = 0; k < o->seeds; k++) {
            char key[PASSKEY_DIGITS + 1], *prompt;
            progress_line("%s: %d tokens, depth %d of %d, key %d of %d", label, tokens, d + 1, o->depths, k + 1,
                          o->seeds);
            make_key(key, o->seed + k, tokens, d);
            int found = passkey_prompt(filler, tokens, depth_of(o, d), key, &prompt, err);
            if (found == 0) {
                found = try_prompt(s, prompt, key, err);
                free(prompt);
            }
            if (found < 0)
                return -1;
            row->found[d] |= (uint64_t)found << k;
        }
    return 0;
}

/* Rows are printed as they end, so that a run that is stopped has shown what it found. By depth: # all keys, . none, else how many. */
static void print_row(const struct passkey_options *o, const char *label, int tokens, const struct passkey_row *row,
                      bool first)
{
    char share[24];
    int total = 0;
    for (int d = 0; d < o->depths; d++)
        total += count_bits(row->found[d]);
    if (first)
        printf("%8s  %-48s %7s  %s\n", "tokens", "setting", "found", "by depth, from the beginning to the end");
    snprintf(share, sizeof share, "%d/%d", total, o->depths * o->seeds);
    printf("%8d  %-48s %7s  ", tokens, label, share);
    for (int d = 0; d < o->depths; d++) {
        int n = count_bits(row->found[d]);
        putchar(n == 0 ? '.' : n == o->seeds ? '#' : n > 9 ? '+' : '0' + n);
    }
    putchar('\n');
    fflush(stdout);
}

/* All lengths of one setting. Returns an exit status. */
static int run_setting(struct session *s, const struct passkey_options *o, struct passkey_filler *filler,
                       const struct eval_setting *setting, struct passkey_row *row, bool first, struct err *err)
{
    struct sampler_params greedy = sampler_defaults();
    greedy.temperature = 0;
    int status = session_start(s, &setting->p, &greedy, err);
    for (int l = 0; l < o->nlengths && status == CMD_OK; l++) {
        int failed = run_length(s, o, filler, setting->label, o->length[l], &row[l], err);
        progress_line(NULL);
        if (failed)
            status = CMD_FAILED;
        else if (!o->json)
            print_row(o, setting->label, o->length[l], &row[l], first && l == 0);
    }
    return status;
}

/* One setting, length and seed. */
static cJSON *json_of(const struct passkey_options *o, const struct eval_setting *setting, int tokens,
                      const struct passkey_row *row, int seed)
{
    int total = 0;
    cJSON *e = cJSON_CreateObject(), *by_depth = cJSON_CreateArray();
    for (int d = 0; d < o->depths; d++) {
        bool found = row->found[d] >> seed & 1;
        cJSON *pair = cJSON_CreateObject();
        cJSON_AddNumberToObject(pair, "depth", depth_of(o, d));
        cJSON_AddBoolToObject(pair, "found", found);
        cJSON_AddItemToArray(by_depth, pair);
        total += found;
    }
    cJSON_AddStringToObject(e, "setting", setting->label);
    cJSON_AddNumberToObject(e, "tokens", tokens);
    cJSON_AddNumberToObject(e, "seed", (double)(o->seed + seed));
    cJSON_AddNumberToObject(e, "found", total);
    cJSON_AddItemToObject(e, "depths", by_depth);
    return e;
}

static void print_json(const struct passkey_options *o, const struct eval_setting *setting,
                       struct passkey_row (*row)[EVAL_MAX_LENGTHS], int n, const char *model)
{
    cJSON *top = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(top, "results");
    cJSON_AddStringToObject(top, "model", model);
    for (int l = 0; l < o->nlengths; l++)
        for (int i = 0; i < n; i++)
            for (int k = 0; k < o->seeds; k++)
                cJSON_AddItemToArray(list, json_of(o, &setting[i], o->length[l], &row[i][l], k));
    cmd_print_json(top);
}

int eval_passkey(int argc, char **argv, struct err *err)
{
    struct passkey_options o = {.lengths = "4096,6144", .depths = 10, .seeds = 1, .seed = 1};
    struct option_texts compare = {.count = 0};
    struct cascade_options cascade;
    struct session_options so;
    cascade_options_init(&cascade);
    session_options_init(&so, false);
    const struct option own[] = {
        {"--lengths", NULL, OPTION_TEXT, &o.lengths, "L,..", "tokens of the whole text (4096,6144)", 0, 0, NULL},
        {"--depths", NULL, OPTION_INT, &o.depths, "D",
         "places of the key: i/(D-1) of the filler come before it, i = 0..D-1 (10)", 1, MAX_DEPTHS, NULL},
        {"--filler", NULL, OPTION_TEXT, &o.filler, "FILE", "a text to hide the key in, in place of the usual sentences",
         0, 0, NULL},
        {"--seed", NULL, OPTION_LONG, &o.seed, "K", "for the keys (1)", 0, 0, NULL},
        {"--seeds", NULL, OPTION_INT, &o.seeds, "K", "so many keys for each place, of seeds from --seed on (1)", 1,
         MAX_SEEDS, NULL},
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
        .what = "Hides a number in a long text and asks for it: found (#) or not (.), or by how many of the seeds, by "
                "length "
                "and depth, for several settings.",
        .group = {{"passkey", own}, {"model", so.table}, {"cascade", cascade.table}},
    };
    int status = options_parse(&set, argc, argv, err);
    if (status != OPTIONS_GO)
        return status;
    if (compare.count == 0)
        compare =
            (struct option_texts){{"--subcaches 1", "--span 1 --head-reduction max", "--head-reduction max", ""}, 4};
    struct eval_setting setting[EVAL_MAX_SETTINGS];
    o.nlengths = eval_lengths(o.lengths, 128, o.length, err);
    if (o.nlengths < 0 || eval_settings(&cascade, &compare, 0, setting, err) < 0)
        return CMD_USAGE;

    struct session s;
    struct passkey_filler *filler = NULL;
    struct passkey_row(*row)[EVAL_MAX_LENGTHS] = err_calloc(EVAL_MAX_SETTINGS, sizeof *row, "results", err);
    status = row ? session_open(&s, &so, err) : CMD_FAILED;
    if (status != CMD_OK) {
        free(row);
        return status;
    }
    int n = eval_settings(&cascade, &compare, s.model->model.shape.ctx_train, setting, err);
    status = n < 0 ? CMD_USAGE : passkey_filler_open(&filler, s.model->tokenizer, o.filler, err) ? CMD_FAILED : CMD_OK;
    interrupt_catch();
    for (int i = 0; i < n && status == CMD_OK; i++)
        status = run_setting(&s, &o, filler, &setting[i], row[i], i == 0, err);
    if (status == CMD_OK && o.json)
        print_json(&o, setting, row, n, gguf_path(s.model->model.gguf));
    passkey_filler_close(filler);
    session_close(&s);
    free(row);
    return status;
}
