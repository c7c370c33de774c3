#ifndef WEIR_STEP_GAUGE_H
#define WEIR_STEP_GAUGE_H

/* A model's decoding step on a device, with its kernels' tiles exchanged: what works in the process of a step_meter_device. */

#include "step_meter.h"

struct step_gauge; /* opaque; lives as long as its process */

/* Opens the CUDA backend, fills the cache, captures the step as inference has it, then puts kernel[i].tile in place where it names any.
 * Model and kernels must outlive it. */
int step_gauge_open(struct step_gauge **out, const struct step_model *what, const struct step_kernel *kernel, int n,
                    struct err *err);

/* Builds kernel[i] with a tile, checks that the logits stay, and times the step with it in turn with the step as it stands, which stays. -1 with
 * why it cannot be had. */
int step_gauge_exchange(struct step_gauge *g, int i, const struct pairs *tile, struct step_time *out, struct err *err);
/* The last exchange, which succeeded, stays from now on. */
void step_gauge_keep(struct step_gauge *g);
/* The step as it stands in turn with the step as it was opened. */
int step_gauge_whole(struct step_gauge *g, struct step_time *out, struct err *err);

/* Whether the step launches kernel[i], and the tile that it stands with. */
int step_gauge_kernel(struct step_gauge *g, int i, bool *launched, struct pairs *tile, struct err *err);

/* Whether the device still works after an error: one of a GPU stays with its context. */
bool step_gauge_works(struct step_gauge *g);

#endif
