#ifndef WEIR_STEP_METER_H
#define WEIR_STEP_METER_H

/* How long a model's decoding step takes with other tiles: the step is a graph of all that one token launches, and one of its kernels is
 * exchanged at a time. (meter.h times a kernel alone.) */

#include "runtime/backend.h"
#include "runtime/device.h"
#include "space.h"

enum { STEP_KERNELS_MAX = 24 };

/* A kernel whose tile may be exchanged. */
struct step_kernel {
    struct tune_problem problem;
    bool launched;     /* by the step: else its tile makes no difference */
    struct pairs tile; /* what it has as the step stands */
};

/* Two graphs replayed in turn, so that the clock's drift cancels. */
struct step_time {
    double ms, base_ms;   /* medians: of the one, and of what it is compared with */
    double ratio, spread; /* of neighbours in time, ms over base_ms: the median, and 90th less 10th percentile */
    char failed[200];     /* why there is no time: it cannot be built, does not run, gives other logits; "" */
};

struct step_meter {
    void *state;                /* owned */
    struct step_kernel *kernel; /* [n], the caller's; the meter keeps `launched` and `tile` */
    int n;

    /* The step with another tile in the place of kernel[i]'s, compared with the step as it stands. -1 only where nothing can be
     * measured any more. */
    int (*exchange)(struct step_meter *m, int i, const struct pairs *tile, struct step_time *out, struct err *err);
    /* The exchange that was measured last stays. */
    int (*keep)(struct step_meter *m, struct err *err);
    /* The step as it stands, compared with the step as it was when the meter was opened. */
    int (*whole)(struct step_meter *m, struct step_time *out, struct err *err);
    void (*close)(struct step_meter *m);
};

/* What is measured; all of it the caller's, and outlives the meter. */
struct step_model {
    const struct model *model;
    const struct cascade_params *p;
    const struct backend_options *o; /* or NULL */
    const char *wisdom;              /* file that the first tiles come from; NULL: where inference looks */
    /* Opens the device, in the process that measures; NULL: GPU 0. How tests bring one with a clock that is made up. */
    int (*open_device)(struct device *dev, struct err *err);
};

/* On a device, in a process of its own: a tile that hangs or crashes there is a failed one. The cache is filled first. */
int step_meter_device_open(struct step_meter *m, const struct step_model *what, struct step_kernel *kernel, int n,
                           struct err *err);

#endif
