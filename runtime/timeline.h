#ifndef WEIR_TIMELINE_H
#define WEIR_TIMELINE_H

/* Where a start's time goes. What is noted is kept until somebody asks for it (WEIR_VERBOSE=1 weir run ...); before timeline_begin, and
 * once the list is full, notes cost nothing. Any thread may note. */

/* Begins: times count from here. Once, before there are other threads. */
void timeline_begin(void);
/* Notes that `what` is done. A constant text. */
void timeline(const char *what);
/* Hands each note on as a line, "  12.3 ms  driver", in the order in which they came. */
void timeline_show(void (*say)(const char *line));

#endif
