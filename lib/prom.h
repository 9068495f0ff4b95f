/*
 * prom.h - metrics as Prometheus reads them (text format 0.0.4)
 */
#ifndef PROM_H
#define PROM_H

#include <stdint.h>

#include "text.h"

#define PROM_TYPE "text/plain; version=0.0.4; charset=utf-8"

/*
 * The head of a family, once, before its samples and with no other's between.
 * name: [a-z0-9_]; type: counter or gauge; help: one line. All prefixed with
 * "edgehaul_".
 */
void prom_family(
    struct text *t, const char *name, const char *type, const char *help);
/*
 * A sample; number is written as it is. Then pairs of a label's name and its
 * value (any UTF-8, escaped here), and NULL.
 */
void prom_sample(struct text *t, const char *name, const char *number, ...)
    __attribute__((sentinel));
/* The same for a whole number. */
void prom_u64(struct text *t, const char *name, uint64_t v, ...)
    __attribute__((sentinel));

#endif
