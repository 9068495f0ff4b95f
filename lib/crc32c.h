/*
 * crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4)
 *
 * Guards footers and index rows against torn writes and stray bits; it is no
 * defence against an attacker.
 */
#ifndef CRC32C_H
#define CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *p, size_t n);

#endif
