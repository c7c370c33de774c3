#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cases_decode.h"
#include "cases_llama.h"
#include "cases_prefill.h"
#include "cases_sample.h"
#include "cases_update.h"
#include "emu/case.h"
#include "emu/parallel.h"
#include "sanitized.h"

/* The emulator must be able to fail: errors planted in the emitted text of every kernel, each of which a case has to report in
 * every schedule, as a mistake or as a wrong result. */

/* The text as it stands, and what is put in its place. */
static const struct plant {
    const char *kernel;
    CMUnitTestFunction run;
    const char *what, *from;
    int nth;
    const char *to;
    const char *word; /* that the message has; NULL: it differs from schedule to schedule */
} plants[] = {
    {"attn_decode", decode_every_shape, "the barrier before the tiles of a split are counted", "sync_block();", 0, "",
     "of shared memory"},
    {"attn_decode", decode_every_shape, "the barrier behind that count", "sync_block();", 1, "", NULL},
    {"attn_decode", decode_every_shape, "the barrier before the queries are read", "sync_block();", 2, "", NULL},
    {"attn_decode", decode_every_shape, "the barrier before the tiles' place is used again",
     "cp_async_wait(0);\n    sync_block();", 0, "cp_async_wait(0);", "of shared memory"},
    {"attn_decode", decode_every_shape, "the barrier before the warps' parts are added", "sync_block();", 4, "", NULL},
    {"attn_decode", decode_every_shape, "a barrier that only one warp comes to", "cp_async_wait(0);\n    sync_block();",
     0, "cp_async_wait(0);\n    sync_block();\n    if (w == 0) sync_block();", "sync_block"},
    {"attn_decode", decode_every_shape, "a thread that leaves early", "sync_block();", 0,
     "if (tid() == 5) return; sync_block();", "exited"},
    {"attn_decode", decode_every_shape, "no wait for the copies", "cp_async_wait(0);\n        sync_warp();", 0,
     "sync_warp();", "cp.async"},
    {"attn_decode", decode_every_shape, "a wait for one group too few", "cp_async_wait(0);\n        sync_warp();", 0,
     "cp_async_wait(1); sync_warp();", "cp.async"},
    {"attn_decode", decode_every_shape, "no sync_warp behind the wait", "cp_async_wait(0);\n        sync_warp();", 0,
     "cp_async_wait(0);", "race"},
    {"attn_decode", decode_every_shape, "an edge of the loaded tile off by one", "k + from, key < n);", 0,
     "k + key * 64 + at, key <= n);", "device memory"},
    {"attn_decode", decode_every_shape, "an edge of the masked tile off by one", "key < n ? *x", 0, "key <= n ? *x",
     NULL},
    {"attn_decode", decode_every_shape, "keys with the padding of another head dimension", "lane() % 8) * 72", 0,
     "lane() % 8) * 80", NULL},
    {"attn_decode", decode_every_shape, "the halves of a key fragment exchanged", "lane() / 8 % 2 * 8", 0,
     "(lane() / 8 + 1) % 2 * 8", NULL},
    {"attn_decode", decode_every_shape, "values that are not transposed", "ldmatrix_x4_trans", 0, "ldmatrix_x4", NULL},
    {"attn_decode", decode_every_shape, "one step of a row's sum left out", "l[h] += shfl_xor_f(l[h], 2);", 0, "",
     NULL},
    {"attn_decode", decode_every_shape, "a collective that half of the lanes skip",
     "top[h] = max_f(top[h], shfl_xor_f(top[h], 2));", 0, "if (c < 2) top[h] = max_f(top[h], shfl_xor_f(top[h], 2));",
     "divergent"},
    {"attn_decode", decode_every_shape, "a stage more than there is room for", "ahead_stage == 1 ? 0", 1,
     "ahead_stage == 2 ? 0", NULL},
    {"attn_decode", decode_every_shape, "the running maximum not kept", "m[h] = top[h];", 0, "", NULL},
    {"attn_decode", decode_every_shape, "a store to every row, not only to real heads", "if (key < n && r + 8 * h < 3)",
     0, "if (key < n)", NULL},
    {"attn_decode", decode_every_shape, "the barrier before the parts are published", "sync_block();", 5, "",
     "another block"},
    {"attn_decode", decode_every_shape, "parts that nobody publishes", "atomic_meet_u(", 0, "atomic_add_u(",
     "another block"},
    {"attn_decode", decode_every_shape, "the barrier behind the count of the parts", "sync_block();", 6, "", NULL},
    {"attn_decode", decode_every_shape, "parts that are added before they are there",
     "cp_async_wait(0);\n        sync_block();", 0, "sync_block();", "cp.async"},
    {"attn_decode", decode_every_shape, "a counter that is not put back", "arrived[kv] = 0;", 0, "arrived[kv] = 1;",
     NULL},
    {"attn_decode", decode_many_splits, "the barrier before the parts' place is used again",
     "sync_block();\n        NO_UNROLL", 0, "NO_UNROLL", NULL},
    {"attn_decode_scores", decode_every_shape, "the barrier behind the runs", "sync_block();", 0, "", NULL},
    {"attn_decode_scores", decode_layers, "scores of the first layer for all", "bid_z() *", 0, "0 *", NULL},
    {"attn_prefill", prefill_every_shape, "the barrier behind the keys", "sync_block(); /* K is there", 0, "/*", NULL},
    {"attn_prefill", prefill_every_shape, "the barrier behind the values", "sync_block(); /* V is there", 0, "/*",
     NULL},
    {"attn_prefill", prefill_every_shape, "no wait for the keys", "cp_async_wait(0);", 0, "", "cp.async"},
    {"attn_prefill", prefill_every_shape, "no wait for the values", "cp_async_wait(0);", 1, "", "cp.async"},
    {"attn_prefill", prefill_every_shape, "tiles written without the swizzle", "to += swizzle(row, tid() % 8);", 0,
     "to += row * 128 + tid() % 8 * 16;", "instead of"},
    {"attn_prefill", prefill_every_shape, "keys read with another swizzle", "lane() / 8 % 2);", 0,
     "(lane() / 8 + 1) % 2);", "instead of"},
    {"attn_prefill", prefill_every_shape, "no swizzle at all", "((c ^ (r & 7)) << 4)", 0, "(c << 4)", "bank conflicts"},
    {"attn_prefill", prefill_every_shape, "the edge of a tile off by one", "min_i(valid,", 0, "min_i(valid + 1,", NULL},
    {"attn_prefill", prefill_every_shape, "rows past the edge of a tile loaded", "left -= row;", 0, "left -= row - 1;",
     NULL},
    {"attn_prefill", prefill_every_shape, "a query that sees the key after its own", "+ r + 1) - c", 0, "+ r + 2) - c",
     "instead of"},
    {"attn_prefill", prefill_every_shape, "outputs read before all lanes have written theirs",
     "    sync_warp();\n    NO_UNROLL", 0, "    NO_UNROLL", "race"},
    {"attn_prefill_wgmma", prefill_every_shape, "copies that are not published", "fence_async();\n    for", 0, "for",
     "fence_async"},
    {"attn_prefill_wgmma", prefill_every_shape, "no wait for the copies", "cp_async_wait(0);", 0, "", "cp.async"},
    {"attn_prefill_wgmma", prefill_every_shape, "a stage that is not waited for",
     "sync_named(full_barrier(stage, group()), FULL_THREADS);", 0, "", NULL},
    {"attn_prefill_wgmma", prefill_every_shape, "a stage that is filled while it is read",
     "sync_named(free_barrier(stage), FREE_THREADS);", 0, "", NULL},
    {"attn_prefill_wgmma", prefill_every_shape, "a stage that is never free", "arrive_named(free_barrier(stage)", 0,
     "if (0) arrive_named(free_barrier(stage)", "for ever"},
    {"attn_prefill_wgmma", prefill_every_shape, "no wait for the scores", "wgmma_wait(1);", 0, "", "under way"},
    {"attn_prefill_wgmma", prefill_every_shape, "no wait for the values", "wgmma_wait(0);", 1, "", "under way"},
    {"attn_prefill_wgmma", prefill_every_shape, "registers of a product that are not published", "wgmma_begin();", 1,
     "", "wgmma_begin"},
    {"attn_prefill_wgmma", prefill_every_shape, "queries that are not published", "fence_async();\n}", 0, "}",
     "fence_async"},
    {"attn_prefill_wgmma", prefill_every_shape, "the next run's queries where this one's are", "Q_BYTES - here, ", 0,
     "here, ", NULL},
    {"attn_prefill_wgmma", prefill_every_shape, "tiles written without the swizzle", "(piece ^ row) % 8 << 4", 0,
     "piece % 8 << 4", "instead of"},
    {"attn_prefill_wgmma", prefill_every_shape, "the edge of a tile off by one", "min_i(valid,", 0, "min_i(valid + 1,",
     NULL},
    {"attn_prefill_wgmma", prefill_every_shape, "a query that sees the key after its own", "+ r + 1) - c", 0,
     "+ r + 2) - c", "instead of"},
    {"attn_prefill_wgmma", prefill_every_shape, "a product that only one warp comes to", "wgmma_begin();", 1,
     "wgmma_begin(); if (warp() == 0) { start_scores(s, queries, 0); wgmma_wait(0); wgmma_begin(); }", "wgmma"},
    {"attn_scores", prefill_every_shape, "the barrier behind the places", "sync_block();", 0, "", NULL},
    {"attn_scores", prefill_every_shape, "the barrier behind the queries", "sync_block(); /* the tile", 0, "/*", NULL},
    {"attn_scores", prefill_every_shape, "a wait for one group too few", "cp_async_wait(1);", 0, "cp_async_wait(2);",
     "cp.async"},
    {"attn_scores", prefill_every_shape, "a key seen by the query before it", "seen = first + lane() / 4", 0,
     "seen = first - 1 + lane() / 4", "instead of"},
    {"attn_scores", prefill_every_shape, "keys read before all lanes have written theirs",
     "x[b]);\n            }\n            sync_warp();", 0, "x[b]);\n            }", NULL},
    {"cascade_update", update_token_by_token, "the barrier behind the winners", "sync_block();", 0, "",
     "device memory"},
    {"cascade_update", update_token_by_token, "the barrier before the last block's work", "sync_block();", 1, "", NULL},
    {"cascade_update", update_token_by_token, "no fence behind it", "fence_device();", 1, "", "another block"},
    {"cascade_update", update_random_streams, "a holder that stays when scores are equal", "seed) > best", 0,
     "seed) >= best", "instead of"},
    {"cascade_update", update_token_by_token, "a counter that is not put back", "*counter = 0;", 0, "*counter = 1;",
     NULL},
    {"cascade_update", update_token_by_token, "keys turned by one too much", "turning ? m", 0, "turning ? 1 + m",
     "of the key"},
    {"matvec", llama_matvec_quants, "no wait for a chunk", "cp_async_wait(0);\n            sync_warp();", 0,
     "sync_warp();", "cp.async"},
    {"matvec", llama_matvec_quants, "no sync_warp behind the wait", "cp_async_wait(0);\n            sync_warp();", 0,
     "cp_async_wait(0);", NULL},
    {"matvec", llama_matvec_quants, "the barrier behind the inputs", "sync_block();", 0, "", NULL},
    {"matvec", llama_matvec_quants, "warps of a team that do not meet", "sync_named(1 + team, 128);", 0, "", NULL},
    {"matvec", llama_matvec_quants, "groups that meet the inputs of others", "if (r == g)", 0, "if (r == (g ^ 1))",
     NULL},
    {"matvec", llama_matvec_quants, "an offset left out", "s.y * group_sums", 0, "0.0f * group_sums", NULL},
    {"matvec", llama_matvec_quants, "a row too many", "&& o < rows;", 0, "&& o <= rows;", "device memory"},
    {"matvec", llama_matvec_quants, "a quarter of a row left out", "sum[i] += shfl_xor_f(sum[i], 2);", 0, "", NULL},
    {"rms_norm", llama_rms_norm, "the barrier before the warps' sums are added", "sync_block();", 0, "", NULL},
    {"sample", sample_greedy, "a counter that is not put back", "state->arrived = 0;", 0, "state->arrived = 1;", NULL},
    {"sample", sample_greedy, "no fence before the count", "fence_device();", 0, "", "another block"},
    {"sample", sample_greedy, "no fence behind it", "fence_device();", 1, "", "another block"},
    {"sample", sample_greedy, "of equal logits the last", "a.id < b.id", 0, "a.id > b.id", "instead of"},
    {"sample", sample_large, "candidates in the wrong order", "before(y, x) : before(x, y)", 0,
     "before(x, y) : before(y, x)", "instead of"},
    {"sample", sample_large, "logits of a warp that is passed over", "% 4 * 32 + lane()", 0, "/ 4 * 32 + lane()",
     "instead of"},
};
enum { NPLANTS = sizeof plants / sizeof plants[0], NSCHEDULES = 3 };

/* The tiles that the texts above are of, so that another default does not change them. */
static const struct emu_case tiles[] = {
    {.tile_of = "attn_decode", .tile = "bn=16 wp=2 st=2"},
    {.tile_of = "attn_decode_scores", .tile = "wp=4"},
    {.tile_of = "attn_prefill", .tile = "bm=64 bn=32 st=1 wp=2 qr=0 pd=1 mb=1"},
    {.tile_of = "attn_prefill_wgmma", .tile = "wg=1 bn=64 st=2 mb=2", .sm = 90},
    {.tile_of = "attn_scores", .tile = "mk=2 bq=32 st=3 wp=2 pd=1 mb=1"},
    {.tile_of = "cascade_update", .tile = "wp=2 sl=1 u=4"},
    {.tile_of = "matvec", .tile = "r=1 u=1 cb=8 wp=4 sk=4 st=2"},
    {.tile_of = "rms_norm", .tile = "wp=4"},
    {.tile_of = "sample", .tile = "wp=4 span=512"},
};

/* Every plant in every schedule; under the sanitizer each in one of them. */
static int plant_jobs(void)
{
    return NPLANTS * NSCHEDULES / sanitized_step(NSCHEDULES);
}

/* Plant * NSCHEDULES + schedule of a job. */
static int plant_of(int job)
{
    return sanitized_step(NSCHEDULES) == 1 ? job : job * NSCHEDULES + job % NSCHEDULES;
}

static int run_plant(int job, void *arg, struct err *err)
{
    int i = plant_of(job);
    const struct plant *p = &plants[i / NSCHEDULES];
    struct emu_case c = {0};
    (void)arg;
    for (size_t t = 0; t < sizeof tiles / sizeof tiles[0]; t++)
        if (strcmp(tiles[t].tile_of, p->kernel) == 0)
            c = tiles[t];
    c.name = p->what;
    c.run = p->run;
    c.schedule = (enum emu_schedule)(i % NSCHEDULES);
    c.seed = (uint64_t)i;
    c.sm = c.sm ? c.sm : 80;
    c.only_d = 64;
    c.plant_in = p->kernel;
    c.plant = p->from;
    c.plant_nth = p->nth;
    c.plant_by = p->to;
    return emu_case_run(&c, err);
}

static void every_plant_is_found(void **state)
{
    struct err *errs = calloc(NPLANTS * NSCHEDULES, sizeof *errs);
    (void)state;
    assert_non_null(errs);
    parallel_run(plant_jobs(), run_plant, NULL, errs);
    for (int job = 0; job < plant_jobs(); job++) {
        int i = plant_of(job);
        const struct plant *p = &plants[i / NSCHEDULES];
        const char *m = errs[job].msg;
        if (!m[0])
            fail_msg("not found in the %s schedule, in %s: %s", emu_schedule_names[i % NSCHEDULES], p->kernel, p->what);
        if (strstr(m, PLANT_FITS_NOT))
            fail_msg("'%s' is not in %s any more; plant the error elsewhere", p->from, p->kernel);
        if (strstr(m, " refuses "))
            fail_msg("the planted text does not compile: %s", m);
        if (p->word && !strstr(m, p->word))
            fail_msg("'%s' is not in: %s", p->word, m);
    }
    free(errs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_plant_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
