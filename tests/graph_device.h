#ifndef WEIR_GRAPH_DEVICE_H
#define WEIR_GRAPH_DEVICE_H

/* Graphs for the emulator: what is launched between capture_begin and capture_end is noted, arguments and all, and replay makes those
 * launches again. So whatever of a step is not in the memory that it reads stays as it was captured, as on a GPU. */

#include "runtime/device.h"

/* Gives an emulated device that is open the calls of a graph. One at a time. */
void graph_device_wrap(struct device *dev);
/* Replays since it was wrapped, and graphs that were made and not released. */
int graph_device_replays(void);
int graph_device_left(void);

#endif
