/*
 * crc32c.c - CRC-32C (Castagnoli), four bits a step
 *
 * Some hundred octets per upload go through it: the plain byte-wise form is
 * fast enough and the same on every processor.
 */
#include "crc32c.h"

uint32_t
crc32c(const void *p, size_t n)
{
	/* Four bits a step: reflected polynomial, nibble table. */
	static const uint32_t table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede,
		0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4,
		0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };
	const unsigned char *b = p;
	uint32_t c = 0xffffffffu;

	for (size_t i = 0; i < n; i++) {
		c ^= b[i];
		c = table[c & 15] ^ (c >> 4);
		c = table[c & 15] ^ (c >> 4);
	}
	return c ^ 0xffffffffu;
}
