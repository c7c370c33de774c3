#ifndef TESTS_CASES_PREFILL_H
#define TESTS_CASES_PREFILL_H

/* Cases of attn_turn, attn_prefill, attn_scores and attn_score_reduce against the oracle, on any device (device_kit.h). */
void prefill_every_shape(void **state);
void prefill_ragged_edges(void **state);
void prefill_every_tile(void **state);
void prefill_reductions(void **state);
void prefill_positions_as_they_are(void **state);
void prefill_large_scores(void **state);
void prefill_nan_stays_in_its_row(void **state);
void prefill_is_deterministic(void **state);
/* The same by attn_prefill_wgmma, where the GPU has it. */
void prefill_wgmma_every_shape(void **state);
void prefill_wgmma_ragged_edges(void **state);
void prefill_wgmma_values(void **state);

#define PREFILL_CASES(test)                                                                                            \
    test(prefill_every_shape), test(prefill_ragged_edges), test(prefill_every_tile), test(prefill_reductions),         \
        test(prefill_positions_as_they_are), test(prefill_large_scores), test(prefill_nan_stays_in_its_row),           \
        test(prefill_is_deterministic), test(prefill_wgmma_every_shape), test(prefill_wgmma_ragged_edges),             \
        test(prefill_wgmma_values)

#endif
