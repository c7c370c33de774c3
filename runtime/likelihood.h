#ifndef WEIR_LIKELIHOOD_H
#define WEIR_LIKELIHOOD_H

/* How likely a token was, from logits on the host. */

#include <stdint.h>

/* -log softmax(logits)[token], in nats; logits [vocab] fp32. */
double likelihood_nats(const float *logits, int vocab, int32_t token);

#endif
