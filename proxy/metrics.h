/*
 * metrics.h - status.json as metrics for Prometheus
 */
#ifndef METRICS_H
#define METRICS_H

#include <cjson/cJSON.h>

#include "text.h"

struct proxy;

/* Cameras that are told apart; the others count together as "other". */
#define METRICS_CAMERAS 200

/* Append all of them to t. status: what status.json tells. */
void metrics_text(const struct proxy *px, const cJSON *status, struct text *t);

#endif
