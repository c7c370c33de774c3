#ifndef TESTS_SANITIZED_H
#define TESTS_SANITIZED_H

/* Whether this is a build under AddressSanitizer, and what tests make of it. */

#include <stdlib.h>

#ifdef __has_feature /* clang's way to say it */
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if !defined(SANITIZED) && defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* For the loop over many cases of a kind: 1, and under the sanitizer, where each takes several times as long and few of them already
 * run all of the code, n. WEIR_TEST_ALL=1 takes them all there too. */
static inline int sanitized_step(int n)
{
    return SANITIZED && !getenv("WEIR_TEST_ALL") ? n : 1;
}

#endif
