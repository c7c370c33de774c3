#ifndef TESTS_CASES_DECODE_H
#define TESTS_CASES_DECODE_H

/* Cases of attn_decode and attn_decode_scores against the oracle, on any device (device_kit.h). */
void decode_every_shape(void **state);
void decode_ragged_runs(void **state);
void decode_layers(void **state);
void decode_many_splits(void **state);
void decode_reductions(void **state);
void decode_nan_stays_in_its_head(void **state);
void decode_is_deterministic(void **state);

#define DECODE_CASES(test)                                                                                             \
    test(decode_every_shape), test(decode_ragged_runs), test(decode_layers), test(decode_many_splits),                 \
        test(decode_reductions), test(decode_nan_stays_in_its_head), test(decode_is_deterministic)

#endif
