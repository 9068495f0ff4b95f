/*
 * sign.h - recipes for many uploads by one request (POST /v1/sign)
 */
#ifndef SIGN_H
#define SIGN_H

#include <stddef.h>

#include "delivery.h"

#define SIGN_MAX 64

struct sign_batch;

/* Ask for n deliveries, which are in state DELIVERY_SIGN. over is called when
 * all of them have moved on. */
struct sign_batch *sign_start(struct agent *a, struct delivery **ds, size_t n,
    void (*over)(struct sign_batch *b, void *arg), void *arg);
/* The deliveries are no longer touched; over is not called. */
void sign_cancel(struct sign_batch *b);

/* What a recipe of this storage may do; size: octets of what is sent. */
void sign_rules(const struct agent *a, const struct storage *st, uint64_t size,
    struct recipe_rules *out);

#endif
