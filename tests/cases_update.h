#ifndef TESTS_CASES_UPDATE_H
#define TESTS_CASES_UPDATE_H

/* Cases of cascade_update against the oracle's one-by-one rule, on any device (device_kit.h). */
void update_every_shape(void **state);
void update_random_streams(void **state);
void update_token_by_token(void **state);
void update_deep_cascades(void **state);
void update_long_stream(void **state);

#define UPDATE_CASES(test)                                                                                             \
    test(update_every_shape), test(update_random_streams), test(update_token_by_token), test(update_deep_cascades),    \
        test(update_long_stream)

#endif
