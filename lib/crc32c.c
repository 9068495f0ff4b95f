/*
 * crc32c.c - CRC-32C (Castagnoli)
 *
 * Some kilobytes for each upload go through it, of its footer and of its row
 * each time that this is read or written: four bits a step, the same on every
 * processor, or by the instruction that x86 has for it.
 */
#include "crc32c.h"

#include <string.h>

static uint32_t
by_table(uint32_t c, const unsigned char *b, size_t n)
{
	/* Four bits a step: reflected polynomial, nibble table. */
	static const uint32_t table[16] = { 0x00000000, 0x105ec76f, 0x20bd8ede,
		0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4,
		0xd3d3e1ab, 0xe330a81a, 0xf36e6f75 };

	for (size_t i = 0; i < n; i++) {
		c ^= b[i];
		c = table[c & 15] ^ (c >> 4);
		c = table[c & 15] ^ (c >> 4);
	}
	return c;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t c, const unsigned char *b, size_t n)
{
	uint64_t eight, c64 = c;

	for (; n >= 8; n -= 8, b += 8) {
		memcpy(&eight, b, 8);
		c64 = __builtin_ia32_crc32di(c64, eight);
	}
	c = (uint32_t)c64;
	for (; n > 0; n--, b++)
		c = __builtin_ia32_crc32qi(c, *b);
	return c;
}
#endif

uint32_t
crc32c(const void *p, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~by_instruction(0xffffffffu, p, n);
#endif
	return ~by_table(0xffffffffu, p, n);
}
