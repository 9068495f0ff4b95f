/*
 * worker_magic.h - what kind of file a body is, by its first octets
 */
#ifndef WORKER_MAGIC_H
#define WORKER_MAGIC_H

#include <stddef.h>
#include <stdint.h>

#include "worker_proto.h"

/* So many of the first octets tell; fewer are taken, too. */
#define MAGIC_OCTETS 64

enum worker_content magic_content(const uint8_t *p, size_t n);

#endif
