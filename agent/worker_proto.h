/*
 * worker_proto.h - what agent and image worker say to each other
 *
 * Fixed records over a SOCK_SEQPACKET pair, one at a time each way, between
 * two programs of one build. The worker says hello once; then for each job it
 * gets a record with two descriptors (SCM_RIGHTS: the body to read, an empty
 * file to write the result to) and answers with one record. The agent trusts
 * nothing in an answer: it looks at the result itself.
 */
#ifndef WORKER_PROTO_H
#define WORKER_PROTO_H

#include <stdint.h>

#define WORKER_VERSION 2
#define WORKER_MAGIC 0x45484957 /* "EHIW" */
#define WORKER_FD 3             /* the worker's end of the pair */

enum worker_feature {
	WORKER_HAS_JPEG = 1,
	WORKER_HAS_JXL = 2,
	WORKER_HAS_SECCOMP = 4
};

struct worker_hello {
	uint32_t magic, version, features;
};

/* `jpeg` of [images]. */
enum worker_jpeg { WORKER_PROGRESSIVE, WORKER_JXL, WORKER_KEEP };

struct worker_job {
	uint32_t magic, serial;
	uint64_t size;  /* the body: the first octets of the first descriptor */
	uint32_t jpeg;  /* enum worker_jpeg */
	uint32_t lossy; /* 1: JPEGs may lose detail */
	uint32_t quality;       /* of lossy: 1..100 */
	uint32_t max_dimension; /* of lossy: longest side; 0: any */
	uint32_t look; /* 1: only say whether a JPEG is whole, by its markers */
	uint64_t max_pixels; /* larger images are left alone */
	uint64_t max_body;   /* larger bodies are left alone */
};

/* What the body is. */
enum worker_content {
	WORKER_OTHER,
	WORKER_JPEG,
	WORKER_BMP,
	WORKER_PNM,
	WORKER_PACKED, /* compressed already, by its first octets */
	WORKER_CONTENTS
};
/* What was done to it. */
enum worker_step {
	WORKER_NOTHING,
	WORKER_STEP_PROGRESSIVE, /* JPEG: other entropy coding, same pixels */
	WORKER_STEP_JXL,     /* JPEG to JPEG XL, restorable octet by octet */
	WORKER_STEP_RAW_JXL, /* raw frame to JPEG XL, same pixels */
	WORKER_STEP_ZSTD,
	WORKER_STEP_LOSSY, /* JPEG, decoded and coded anew */
	WORKER_STEPS
};
/* How it went. All but WORKER_SMALLER: the original goes. */
enum worker_outcome {
	WORKER_SMALLER,
	WORKER_PLAIN,       /* nothing to gain, seen from a sample */
	WORKER_NO_GAIN,     /* tried: not smaller by enough */
	WORKER_DAMAGED,     /* a JPEG that is truncated or broken */
	WORKER_TOO_LARGE,   /* over a limit on pixels, scans or memory */
	WORKER_UNSUPPORTED, /* a kind that the codecs do not take */
	WORKER_DIFFERS,     /* decoded again it was not the same */
	WORKER_FAILED,      /* reading, writing or a codec failed */
	/* The agent's own, never in an answer: */
	WORKER_DIED,
	WORKER_TIMEOUT,
	WORKER_NONE, /* no worker could be started */
	WORKER_OUTCOMES
};

struct worker_answer {
	uint32_t magic, serial;
	uint32_t outcome, content, step;
	uint32_t width, height; /* of an image, if known */
	uint32_t peak_kb;       /* largest resident set so far */
	uint64_t out_size;      /* WORKER_SMALLER: octets of the result */
	uint8_t in_sha256[32];  /* of the body as it was read */
};

#endif
