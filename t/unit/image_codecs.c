/*
 * image_codecs.c - tests of what an image worker does to a body
 *
 * The codecs run in this process, over files in memory. Pixels are compared by
 * decoding both JPEGs here, apart from the worker's own comparison.
 */
#include "config.h"
#include "worker_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <zstd.h>

#ifdef HAVE_JPEG
#include <jpeglib.h>
#endif

struct body {
	uint8_t *p;
	size_t n;
};

static struct body
load(const char *name)
{
	const char *top = getenv("TOP_SRCDIR");
	char path[4096];
	struct body b = { malloc(1 << 20), 0 };
	FILE *f;

	snprintf(
	    path, sizeof(path), "%s/t/data/%s", top != NULL ? top : ".", name);
	f = fopen(path, "rb");
	if (f == NULL)
		fail_msg("%s: not there", path);
	b.n = fread(b.p, 1, 1 << 20, f);
	fclose(f);
	assert_true(b.n > 0 && b.n < 1 << 20);
	return b;
}

static int
to_fd(const void *p, size_t n)
{
	int fd = memfd_create("body", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, n, 0), n);
	return fd;
}

static const struct worker_job plain_job = {
	.quality = 75, .max_pixels = 50000000, .max_body = 64 << 20
};

/* The whole of a job. out->p is NULL if nothing got smaller. */
static struct worker_answer
shrink(struct worker_job job, const uint8_t *p, size_t n, struct body *out)
{
	int in = to_fd(p, n), to = memfd_create("result", MFD_CLOEXEC);
	struct worker_answer a = { 0 };
	uint8_t sha[32];

	job.size = n;
	worker_job_run(&job, 256 << 20, in, to, &a);
	*out = (struct body){ NULL, 0 };
	if (a.outcome == WORKER_SMALLER) {
		struct stat st;

		assert_int_equal(fstat(to, &st), 0);
		assert_int_equal(st.st_size, a.out_size);
		assert_true(a.out_size < n);
		*out = (struct body){ malloc(a.out_size), a.out_size };
		assert_int_equal(pread(to, out->p, out->n, 0), (ssize_t)out->n);
		EVP_Digest(p, n, sha, NULL, EVP_sha256(), NULL);
		assert_memory_equal(sha, a.in_sha256, 32);
	} else {
		assert_int_equal(a.out_size, 0);
	}
	close(in);
	close(to);
	return a;
}

#ifdef HAVE_JPEG
struct to_jump {
	struct jpeg_error_mgr err;
	jmp_buf jump;
};

static void
on_error(j_common_ptr c)
{
	longjmp(((struct to_jump *)c->err)->jump, 1);
}

/* The pixels, malloc'd; NULL: not a JPEG that the library takes. */
static uint8_t *
pixels(const struct body *b, size_t *n_out)
{
	struct jpeg_decompress_struct c = { 0 };
	struct to_jump j;
	uint8_t *volatile all = NULL;
	size_t row;

	c.err = jpeg_std_error(&j.err);
	j.err.error_exit = on_error;
	if (setjmp(j.jump) != 0) {
		jpeg_destroy_decompress(&c);
		free(all);
		return NULL;
	}
	jpeg_create_decompress(&c);
	jpeg_mem_src(&c, b->p, b->n);
	jpeg_read_header(&c, TRUE);
	jpeg_start_decompress(&c);
	row = (size_t)c.output_width * (size_t)c.output_components;
	all = malloc(row * c.output_height);
	while (c.output_scanline < c.output_height) {
		JSAMPROW r = all + row * c.output_scanline;

		jpeg_read_scanlines(&c, &r, 1);
	}
	*n_out = row * c.output_height;
	jpeg_finish_decompress(&c);
	jpeg_destroy_decompress(&c);
	return all;
}

static void
assert_same_pixels(const struct body *a, const struct body *b)
{
	size_t n = 0, m = 0;
	uint8_t *p = pixels(a, &n), *q = pixels(b, &m);

	assert_non_null(p);
	assert_non_null(q);
	assert_int_equal(n, m);
	assert_memory_equal(p, q, n);
	free(p);
	free(q);
}
#endif

/* ---- JPEG ---------------------------------------------------------------- */

static void
test_progressive(void **state)
{
	static const char *const names[] = { "camera.jpg", "images/odd-420.jpg",
		"images/odd-422.jpg", "images/odd-444.jpg", "images/gray.jpg",
		"images/restart.jpg", "images/rgb.jpg", "images/metadata.jpg" };

	if (!jpeg_built_in())
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct body b = load(names[i]), out;
		struct worker_answer a = shrink(plain_job, b.p, b.n, &out);
		struct jpeg_shape s;

		print_message("%s: %zu to %zu\n", names[i], b.n, out.n);
		assert_int_equal(a.content, WORKER_JPEG);
		assert_int_equal(a.step, WORKER_STEP_PROGRESSIVE);
		assert_int_equal(a.outcome, WORKER_SMALLER);
		jpeg_shape(out.p, out.n, &s);
		assert_null(s.flaw);
		assert_int_equal(s.sof, 0xc2);
		assert_int_equal(a.width, s.width);
#ifdef HAVE_JPEG
		assert_same_pixels(&b, &out);
#endif
		free(b.p);
		free(out.p);
	}
}

/* The segments from SOI up to the first that is neither APPn nor COM. */
static size_t
metadata_n(const struct body *b)
{
	size_t at = 2;

	while ((b->p[at + 1] & 0xf0) == 0xe0 || b->p[at + 1] == 0xfe)
		at += 2 + (size_t)(b->p[at + 2] << 8 | b->p[at + 3]);
	return at;
}

static void
test_metadata(void **state)
{
	static const char rest[] = "\0\0vendor data after the end";
	struct body b = load("images/metadata.jpg"), out;
	size_t n = metadata_n(&b);

	if (!jpeg_built_in()) {
		free(b.p);
		return;
	}
	assert_int_equal(
	    shrink(plain_job, b.p, b.n, &out).outcome, WORKER_SMALLER);
	assert_int_equal(metadata_n(&out), n);
	assert_memory_equal(out.p, b.p, n);
	assert_memory_equal(
	    out.p + out.n - (sizeof(rest) - 1), rest, sizeof(rest) - 1);
	free(out.p);
	free(b.p);
}

static void
test_same_again(void **state)
{
	struct worker_job job = plain_job;

	for (job.jpeg = 0; job.jpeg <= WORKER_KEEP; job.jpeg++) {
		struct body b = load("camera.jpg"), x, y;

		shrink(job, b.p, b.n, &x);
		shrink(job, b.p, b.n, &y);
		assert_int_equal(x.n, y.n);
		if (x.n > 0)
			assert_memory_equal(x.p, y.p, x.n);
		if (job.jpeg == WORKER_KEEP)
			assert_int_equal(x.n, 0);
		free(b.p);
		free(x.p);
		free(y.p);
	}
}

static void
test_no_gain(void **state)
{
	struct body b = load("camera.jpg"), out, again;
	struct worker_answer a;

	if (jpeg_built_in()) {
		shrink(plain_job, b.p, b.n, &out);
		a = shrink(plain_job, out.p, out.n, &again);
		assert_int_equal(a.outcome, WORKER_NO_GAIN);
		free(out.p);
	}
	free(b.p);
	b = load("images/arithmetic.jpg");
	a = shrink(plain_job, b.p, b.n, &out);
	assert_int_equal(a.outcome, WORKER_UNSUPPORTED);
	free(b.p);
	b = load("images/cmyk.jpg"); /* its tables are optimal already */
	a = shrink(plain_job, b.p, b.n, &out);
	if (jpeg_built_in())
		assert_int_equal(a.outcome, WORKER_NO_GAIN);
	free(b.p);
}

static void
test_damaged(void **state)
{
	struct worker_job job = plain_job;
	struct body b = load("camera.jpg"), out;

	for (job.jpeg = 0; job.jpeg <= WORKER_KEEP; job.jpeg++) {
		struct worker_answer a;

		if (job.jpeg == WORKER_PROGRESSIVE ? !jpeg_built_in()
						   : !jxl_built_in())
			continue;
		/* cut short: seen without decoding */
		for (size_t n = b.n - 1; n > 300; n -= n / 7) {
			a = shrink(job, b.p, n, &out);
			assert_int_equal(a.outcome, WORKER_DAMAGED);
		}
		if (job.jpeg == WORKER_KEEP)
			continue;
		/* a hole, as a lost block leaves it */
		memset(b.p + 20000, 0, 4096);
		a = shrink(job, b.p, b.n, &out);
		if (jpeg_built_in())
			assert_int_equal(a.outcome, WORKER_DAMAGED);
		assert_null(out.p);
		free(b.p);
		b = load("camera.jpg");
	}
	free(b.p);
}

/* Only looked at: what is cut short is seen, nothing is coded. */
static void
test_look(void **state)
{
	struct worker_job job = plain_job;
	struct body b = load("camera.jpg"), out;
	char text[4096];

	job.look = 1;
	for (job.jpeg = 0; job.jpeg <= WORKER_KEEP; job.jpeg++) {
		assert_int_equal(
		    shrink(job, b.p, b.n, &out).outcome, WORKER_PLAIN);
		assert_int_equal(
		    shrink(job, b.p, b.n - 9, &out).outcome, WORKER_DAMAGED);
	}
	memset(text, 'a', sizeof(text));
	assert_int_equal(
	    shrink(job, (uint8_t *)text, sizeof(text), &out).outcome,
	    WORKER_PLAIN);
	free(b.p);
}

static void
test_fill(void **state)
{
	struct body b = load("camera.jpg"), out;

	if (jpeg_built_in()) {
		/* octets before the end marker that say nothing */
		memcpy(b.p + b.n - 2, "\0\0\0\0\0\0\0\0\xff\xd9", 10);
		b.n += 8;
		assert_int_equal(
		    shrink(plain_job, b.p, b.n, &out).outcome, WORKER_SMALLER);
#ifdef HAVE_JPEG
		assert_same_pixels(&b, &out);
#endif
		free(out.p);
	}
	free(b.p);
}

/* Where SOF lies: its length is at [at + 2]. */
static size_t
find_sof(const struct body *b)
{
	size_t at = 2;

	while (b->p[at + 1] < 0xc0 || b->p[at + 1] > 0xc2)
		at += 2 + (size_t)(b->p[at + 2] << 8 | b->p[at + 3]);
	return at;
}

static void
test_bombs(void **state)
{
	static const char bmp[54] = "BM\x36\0\0\x10\0\0\0\0\x36\0\0\0\x28\0\0\0"
				    "\xff\xff\xff\x7f\xff\xff\0\0\1\0\x18";
	static const char pnm[] = "P6 65000 65000 255\n";
	struct worker_job job = plain_job;
	uint8_t tiny[4096] = { 0 };
	struct body b = load("camera.jpg"), out;
	size_t at = find_sof(&b);
	struct worker_answer a;

	memcpy(b.p + at + 5, "\xea\x60\xea\x60", 4); /* 60000 x 60000 */
	for (job.jpeg = 0; job.jpeg <= WORKER_KEEP; job.jpeg++) {
		a = shrink(job, b.p, b.n, &out);
		if (job.jpeg == WORKER_KEEP)
			assert_int_equal(a.outcome, WORKER_PLAIN);
		else if (job.jpeg == WORKER_PROGRESSIVE ? jpeg_built_in()
							: jxl_built_in())
			assert_int_equal(a.outcome, WORKER_TOO_LARGE);
		assert_true(a.peak_kb < 100000);
	}
	job.lossy = 1;
	job.max_dimension = 16;
	a = shrink(job, b.p, b.n, &out);
	assert_true(a.outcome == WORKER_TOO_LARGE || !jpeg_built_in());
	free(b.p);
	/* frames that are not there: only the octets that are count */
	job = plain_job;
	job.jpeg = WORKER_JXL;
	memcpy(tiny, bmp, sizeof(bmp));
	a = shrink(job, tiny, sizeof(tiny), &out);
	assert_int_equal(a.step, WORKER_STEP_ZSTD);
	free(out.p);
	memset(tiny, 0, sizeof(tiny));
	memcpy(tiny, pnm, sizeof(pnm) - 1);
	a = shrink(job, tiny, sizeof(tiny), &out);
	assert_int_equal(a.step, WORKER_STEP_ZSTD);
	free(out.p);
}

/* A progressive JPEG whose last scan comes again and again. */
static void
test_endless_scans(void **state)
{
	struct body b = load("images/progressive.jpg"), out;
	struct jpeg_shape s;
	size_t last = b.n - 2, n;
	uint8_t *p;

	while (b.p[last] != 0xff || b.p[last + 1] != 0xda)
		last--;
	n = b.n - 2 - last;
	p = malloc(b.n + 2000 * n);
	memcpy(p, b.p, b.n - 2);
	for (size_t i = 0; i < 2000; i++)
		memcpy(p + b.n - 2 + i * n, b.p + last, n);
	memcpy(p + b.n - 2 + 2000 * n, "\xff\xd9", 2);
	jpeg_shape(p, b.n + 2000 * n, &s);
	assert_null(s.flaw);
	assert_true(s.scans > 2000);
	if (jpeg_built_in())
		assert_int_equal(
		    shrink(plain_job, p, b.n + 2000 * n, &out).outcome,
		    WORKER_TOO_LARGE);
	free(p);
	free(b.p);
}

static void
test_lossy(void **state)
{
	struct worker_job job = plain_job;
	struct body b = load("camera.jpg"), out;
	struct jpeg_shape s;
	struct worker_answer a;

	if (jpeg_built_in()) {
		job.lossy = 1;
		job.quality = 50;
		job.max_dimension = 400;
		a = shrink(job, b.p, b.n, &out);
		assert_int_equal(a.outcome, WORKER_SMALLER);
		assert_int_equal(a.step, WORKER_STEP_LOSSY);
		assert_true(out.n < b.n / 3);
		jpeg_shape(out.p, out.n, &s);
		assert_null(s.flaw);
		assert_true(s.width <= 400 && s.width > 300);
		free(out.p);
	}
	free(b.p);
}

/* ---- JPEG XL ------------------------------------------------------------- */

static void
test_jxl(void **state)
{
	static const char *const names[] = { "camera.jpg", "images/odd-420.jpg",
		"images/odd-422.jpg", "images/odd-444.jpg", "images/gray.jpg",
		"images/restart.jpg", "images/progressive.jpg",
		"images/metadata.jpg" };
	struct worker_job job = plain_job;

	job.jpeg = WORKER_JXL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct body b = load(names[i]), out;
		struct worker_answer a = shrink(job, b.p, b.n, &out);

		print_message("%s: %zu to %zu\n", names[i], b.n, out.n);
		if (jxl_built_in()) {
			assert_int_equal(a.outcome, WORKER_SMALLER);
			assert_int_equal(a.step, WORKER_STEP_JXL);
			assert_memory_equal(
			    out.p, "\0\0\0\x0cJXL \r\n\x87\n", 12);
		} else {
			assert_int_equal(a.outcome, WORKER_UNSUPPORTED);
		}
		free(b.p);
		free(out.p);
	}
}

static void
test_raw(void **state)
{
	static const char *const names[] = { "images/odd.ppm", "images/odd.bmp",
		"images/gray.pgm", "images/gray16.pgm" };
	struct worker_job job = plain_job;

	job.jpeg = WORKER_JXL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct body b = load(names[i]), out;
		struct worker_answer a = shrink(job, b.p, b.n, &out);

		print_message("%s: %zu to %zu\n", names[i], b.n, out.n);
		if (jxl_built_in()) {
			assert_int_equal(a.outcome, WORKER_SMALLER);
			assert_int_equal(a.step, WORKER_STEP_RAW_JXL);
			assert_true(out.n < b.n * 55 / 100 || i == 3);
		}
		free(b.p);
		free(out.p);
	}
}

static void
test_raw_shape(void **state)
{
	struct body b = load("images/odd.bmp"), p = load("images/odd.ppm");
	struct raw_shape s, t;
	uint8_t x[163 * 3], y[163 * 3];

	assert_int_equal(raw_shape(b.p, b.n, 1 << 20, &s), 0);
	assert_int_equal(raw_shape(p.p, p.n, 1 << 20, &t), 0);
	assert_int_equal(s.width, 163);
	for (uint32_t i = 0; i < 117; i++) {
		raw_row(b.p, &s, i, x);
		raw_row(p.p, &t, i, y);
		assert_memory_equal(x, y, sizeof(x));
	}
	/* what would be lost: octets behind, padding, palettes, comments */
	assert_true(raw_shape(b.p, b.n - 1, 1 << 20, &s) < 0);
	assert_true(raw_shape(b.p, b.n + 1, 1 << 20, &s) < 0);
	assert_true(raw_shape(b.p, b.n, 163 * 117 - 1, &s) < 0);
	b.p[54 + 163 * 3] = 1;
	assert_true(raw_shape(b.p, b.n, 1 << 20, &s) < 0);
	free(b.p);
	free(p.p);
}

static const char head[] = "P5\n# exposure 1/50\n64 # w\n 48\n65535\n";

/* With comments: the header comes back too. Other ranges go by zstd. */
static void
test_raw_header(void **state)
{
	struct worker_job job = plain_job;
	size_t h = sizeof(head) - 1, n = h + 64 * 48 * 2;
	uint8_t *p = malloc(n);
	struct body out;
	struct worker_answer a;

	memcpy(p, head, h);
	for (unsigned i = 0; i < 64 * 48; i++) {
		p[h + 2 * i] = (uint8_t)(i % 64);
		p[h + 2 * i + 1] = (uint8_t)(i / 64 + i * 7 % 5);
	}
	job.jpeg = WORKER_JXL;
	a = shrink(job, p, n, &out);
	if (jxl_built_in()) {
		assert_int_equal(a.outcome, WORKER_SMALLER);
		assert_int_equal(a.step, WORKER_STEP_RAW_JXL);
		assert_non_null(memmem(out.p, out.n, head, h));
	}
	free(out.p);
	memcpy(p + h - 6, "16383", 5);
	a = shrink(job, p, n, &out);
	assert_int_equal(a.step, WORKER_STEP_ZSTD);
	free(out.p);
	free(p);
}

/* ---- zstd ---------------------------------------------------------------- */

static void
test_zstd(void **state)
{
	size_t n = 700001;
	uint8_t *p = malloc(n), *back = malloc(n);
	struct body out;
	struct worker_answer a;

	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)("temperature,humidity\n"[i % 21] + i / 9999);
	a = shrink(plain_job, p, n, &out);
	assert_int_equal(a.outcome, WORKER_SMALLER);
	assert_int_equal(a.step, WORKER_STEP_ZSTD);
	assert_int_equal(ZSTD_decompress(back, n, out.p, out.n), n);
	assert_memory_equal(p, back, n);
	free(out.p);
	free(back);
	free(p);
}

static void
test_plain(void **state)
{
	uint8_t p[100000];
	struct body out;
	uint64_t x = 88172645463325252;

	for (size_t i = 0; i < sizeof(p); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 24);
	}
	assert_int_equal(
	    shrink(plain_job, p, sizeof(p), &out).outcome, WORKER_PLAIN);
	memset(p, 'a', sizeof(p));
	memcpy(p, "\x89PNG\r\n\x1a\n", 8);
	assert_int_equal(
	    shrink(plain_job, p, sizeof(p), &out).outcome, WORKER_PLAIN);
	assert_int_equal(shrink(plain_job, p, 1, &out).outcome, WORKER_PLAIN);
	assert_int_equal(shrink(plain_job, p, 0, &out).outcome, WORKER_PLAIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_progressive),
		cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_same_again),
		cmocka_unit_test(test_no_gain),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_look),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_endless_scans),
		cmocka_unit_test(test_lossy),
		cmocka_unit_test(test_jxl),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_raw_shape),
		cmocka_unit_test(test_raw_header),
		cmocka_unit_test(test_zstd),
		cmocka_unit_test(test_plain),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
