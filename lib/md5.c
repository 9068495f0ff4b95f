/*
 * md5.c - MD5 (RFC 1321) of several messages at a time
 *
 * Each step of MD5 needs the one before, so one message leaves most of a
 * processor idle: libcrypto takes longer for it than for SHA-256. Eight
 * messages side by side in the lanes of vectors take little longer than one.
 * The vectors are the compiler's own (SSE2, NEON; AVX2 or AVX-512 where the
 * processor has it); where there are none, and for one or two messages,
 * libcrypto does it.
 */
#include "md5.h"

#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>

static void
one(struct md5_message *m)
{
	if (EVP_Digest(m->p, m->n, m->digest, NULL, EVP_md5(), NULL) != 1)
		abort(); /* out of memory, as in xalloc.c */
}

#if (defined(__SSE2__) || defined(__ARM_NEON)) &&                              \
    __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#define BLOCK 64

typedef uint32_t lanes __attribute__((vector_size(4 * MD5_LANES)));

struct side {
	const unsigned char *p;
	size_t whole, blocks;          /* blocks of p; and of the tail too */
	unsigned char tail[2 * BLOCK]; /* the last octets, padded */
};

// clang-format off
static const uint32_t sines[64] = {
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee,
	0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
	0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
	0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
	0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
	0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
	0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
	0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
	0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
	0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
	0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05,
	0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
	0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039,
	0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
	0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
	0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
// clang-format on

static void
side_begin(struct side *s, const struct md5_message *m)
{
	size_t rest = m->n % BLOCK, end;
	uint64_t bits = (uint64_t)m->n * 8;

	s->p = m->p;
	s->whole = m->n / BLOCK;
	s->blocks = s->whole + (rest + 9 <= BLOCK ? 1 : 2);
	end = (s->blocks - s->whole) * BLOCK;
	memset(s->tail, 0, sizeof(s->tail));
	if (rest > 0)
		memcpy(s->tail, s->p + m->n - rest, rest);
	s->tail[rest] = 0x80;
	memcpy(s->tail + end - 8, &bits, 8);
}

static const unsigned char *
side_block(const struct side *s, size_t i)
{
	if (i < s->whole)
		return s->p + i * BLOCK;
	return i < s->blocks ? s->tail + (i - s->whole) * BLOCK : s->tail;
}

static inline uint32_t
word_at(const unsigned char *p)
{
	uint32_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

#define WORD(side) word_at(at[side] + 4 * k)
#define F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define H(x, y, z) ((x) ^ (y) ^ (z))
#define I(x, y, z) ((y) ^ ((x) | ~(z)))
/* b comes last of all: what does not need it is added before. */
#define STEP(f, a, b, c, d, i, word, turn)                                     \
	do {                                                                   \
		a += w[(word) % 16] + sines[i];                                \
		a += f(b, c, d);                                               \
		a = (a << (turn)) | (a >> (32 - (turn)));                      \
		a += b;                                                        \
	} while (0)
/* Four steps, after which each of the four is where it was. */
#define STEPS(f, i, g, k, t0, t1, t2, t3)                                      \
	do {                                                                   \
		STEP(f, a, b, c, d, (i), (g) * (i) + (k), t0);                 \
		STEP(f, d, a, b, c, (i) + 1, (g) * ((i) + 1) + (k), t1);       \
		STEP(f, c, d, a, b, (i) + 2, (g) * ((i) + 2) + (k), t2);       \
		STEP(f, b, c, d, a, (i) + 3, (g) * ((i) + 3) + (k), t3);       \
	} while (0)

/* One block of each side. */
static inline __attribute__((always_inline)) void
blocks(lanes state[4], const unsigned char *const at[MD5_LANES])
{
	lanes a = state[0], b = state[1], c = state[2], d = state[3], w[16];

	for (unsigned k = 0; k < 16; k++)
		w[k] = (lanes){ WORD(0), WORD(1), WORD(2), WORD(3), WORD(4),
			WORD(5), WORD(6), WORD(7) };
#pragma GCC unroll 16
	for (unsigned i = 0; i < 16; i += 4)
		STEPS(F, i, 1, 0, 7, 12, 17, 22);
#pragma GCC unroll 16
	for (unsigned i = 16; i < 32; i += 4)
		STEPS(G, i, 5, 1, 5, 9, 14, 20);
#pragma GCC unroll 16
	for (unsigned i = 32; i < 48; i += 4)
		STEPS(H, i, 3, 5, 4, 11, 16, 23);
#pragma GCC unroll 16
	for (unsigned i = 48; i < 64; i += 4)
		STEPS(I, i, 7, 0, 6, 10, 15, 21);
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
}

static inline __attribute__((always_inline)) void
sides(struct md5_message *m, size_t n)
{
	const unsigned char *at[MD5_LANES];
	struct side s[MD5_LANES];
	size_t most = 0;
	lanes state[4] = { 0 };

	state[0] += 0x67452301;
	state[1] += 0xefcdab89;
	state[2] += 0x98badcfe;
	state[3] += 0x10325476;
	for (size_t l = 0; l < MD5_LANES; l++) {
		/* who has no message does the first one's again */
		side_begin(&s[l], &m[l < n ? l : 0]);
		most = s[l].blocks > most ? s[l].blocks : most;
	}
	for (size_t i = 0; i < most; i++) {
		for (size_t l = 0; l < MD5_LANES; l++)
			at[l] = side_block(&s[l], i);
		blocks(state, at);
		for (size_t l = 0; l < n; l++)
			for (unsigned k = 0; i + 1 == s[l].blocks && k < 4; k++)
				memcpy(m[l].digest + 4 * k,
				    &(uint32_t){ state[k][l] }, 4);
	}
}

static void
sides_plain(struct md5_message *m, size_t n)
{
	sides(m, n);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void
sides_avx2(struct md5_message *m, size_t n)
{
	sides(m, n);
}

/* It can rotate. */
__attribute__((target("avx512vl"))) static void
sides_avx512(struct md5_message *m, size_t n)
{
	sides(m, n);
}
#endif

static void
together(struct md5_message *m, size_t n)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512vl"))
		sides_avx512(m, n);
	else if (__builtin_cpu_supports("avx2"))
		sides_avx2(m, n);
	else
#endif
		sides_plain(m, n);
}

#define TOGETHER_MIN 3
#else
static void
together(struct md5_message *m, size_t n)
{
}

#define TOGETHER_MIN SIZE_MAX
#endif

void
md5_many(struct md5_message *m, size_t n)
{
	while (n > 0) {
		size_t k = n < MD5_LANES ? n : MD5_LANES;

		if (k >= TOGETHER_MIN)
			together(m, k);
		else
			one(m), k = 1;
		m += k;
		n -= k;
	}
}
