/*
 * worker_jpeg.c - smaller JPEGs by libjpeg-turbo
 *
 * Lossless recoding moves the quantized coefficients, untouched, from one
 * entropy coding to another (the way of jpegtran): progressive scans with
 * Huffman tables made for them. All APPn and COM segments go along verbatim
 * and in order, what follows the end marker too. The result is read back and
 * its coefficients, quantization tables, sampling and colour space are
 * compared with the original's: where these are equal, so are the pixels, in
 * any decoder. That costs a third of comparing pixels.
 *
 * The library reports errors by a call that must not return; it longjmps to
 * guarded(), and what failed is known from how far the work was. All state is
 * in struct recode, which outlives the jump. A warning means that the
 * original is damaged, so it is not touched.
 */
#include "config.h"
#include "worker_codec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JPEG
#include <jpeglib.h>
#include <jerror.h>

/* Fill octets that cheap cameras leave before the end marker. */
#define FILL_MAX 32

struct recode {
	struct jpeg_error_mgr err;
	struct jpeg_progress_mgr progress;
	struct jpeg_destination_mgr to;
	jmp_buf jump;
	enum worker_outcome failed; /* if the library gives up now */
	unsigned warnings;

	const uint8_t *p;
	size_t n; /* the original */
	const struct jpeg_shape *shape;
	const struct image_limits *lim;
	struct image_out *out;
	unsigned quality, max_dimension;

	struct jpeg_decompress_struct src, check;
	struct jpeg_compress_struct dst;
	jpeg_scan_info scans[8];
};

typedef enum worker_outcome (*recode_fn)(struct recode *r);

/* ---- what the library calls ---------------------------------------------- */

static void
on_error(j_common_ptr c)
{
	struct recode *r = c->client_data;

	if (c->err->msg_code == JERR_OUT_OF_MEMORY ||
	    c->err->msg_code == JERR_NO_BACKING_STORE)
		r->failed = WORKER_TOO_LARGE;
	longjmp(r->jump, 1);
}

static void
on_message(j_common_ptr c, int level)
{
	struct recode *r = c->client_data;

	if (level >= 0) /* a trace */
		return;
	if (c->err->msg_code == JWRN_EXTRANEOUS_DATA &&
	    c->err->msg_parm.i[0] <= FILL_MAX)
		return;
	r->warnings++;
}

static void
on_output(j_common_ptr c)
{
}

/* Scans may be many and cheap to write, each costs us the whole picture. */
static void
on_progress(j_common_ptr c)
{
	struct recode *r = c->client_data;

	if (!c->is_decompressor)
		return;
	if (((j_decompress_ptr)c)->input_scan_number <= (int)r->lim->max_scans)
		return;
	r->failed = WORKER_TOO_LARGE;
	longjmp(r->jump, 1);
}

static void
to_init(j_compress_ptr c)
{
	struct recode *r = c->client_data;

	r->to.next_output_byte = r->out->data;
	r->to.free_in_buffer = r->out->cap;
}

static boolean
to_full(j_compress_ptr c)
{
	struct recode *r = c->client_data;

	r->failed = WORKER_NO_GAIN;
	longjmp(r->jump, 1);
}

static void
to_term(j_compress_ptr c)
{
	struct recode *r = c->client_data;

	r->out->n = r->out->cap - r->to.free_in_buffer;
}

/* ---- reading ------------------------------------------------------------- */

static void
read_head(struct recode *r, struct jpeg_decompress_struct *c, const uint8_t *p,
    size_t n, bool markers)
{
	c->err = &r->err;
	c->client_data = r;
	jpeg_create_decompress(c);
	c->client_data = r;
	c->progress = &r->progress;
	jpeg_mem_src(c, p, n);
	if (markers) {
		jpeg_save_markers(c, JPEG_COM, 0xffff);
		for (int i = 0; i < 16; i++)
			jpeg_save_markers(c, JPEG_APP0 + i, 0xffff);
	}
	jpeg_read_header(c, TRUE);
}

static void
open_target(struct recode *r)
{
	r->dst.err = &r->err;
	r->dst.client_data = r;
	jpeg_create_compress(&r->dst);
	r->dst.client_data = r;
	r->to = (struct jpeg_destination_mgr){ .init_destination = to_init,
		.empty_output_buffer = to_full,
		.term_destination = to_term };
	r->dst.dest = &r->to;
}

/* ---- writing ------------------------------------------------------------- */

/*
 * The scans of one colour component in three steps: low and high frequencies
 * without their last bit, then the last bit. On photographs of cameras as
 * small as the library's ten scans, for a fifth less work.
 */
static jpeg_scan_info *
fine_scans(jpeg_scan_info *s, int component)
{
	static const jpeg_scan_info steps[] = {
		{ 1, { 0 }, 1, 8, 0, 1 },
		{ 1, { 0 }, 9, 63, 0, 1 },
		{ 1, { 0 }, 1, 63, 1, 0 },
	};

	for (size_t i = 0; i < 3; i++, s++) {
		*s = steps[i];
		s->component_index[0] = component;
	}
	return s;
}

static void
choose_scans(struct recode *r)
{
	jpeg_scan_info *s = r->scans;
	int n = r->dst.num_components;

	if (n != 1 && (n != 3 || r->dst.jpeg_color_space != JCS_YCbCr)) {
		jpeg_simple_progression(&r->dst);
		return;
	}
	*s++ = (jpeg_scan_info){ .comps_in_scan = n,
		.component_index = { 0, 1, 2 } };
	s = fine_scans(s, 0);
	for (int i = 1; i < n; i++)
		*s++ = (jpeg_scan_info){ .comps_in_scan = 1,
			.component_index = { i },
			.Ss = 1,
			.Se = 63 };
	r->dst.scan_info = r->scans;
	r->dst.num_scans = (int)(s - r->scans);
}

/* Every APPn and COM segment as it was, so none by the library. */
static void
write_markers(struct recode *r)
{
	for (jpeg_saved_marker_ptr m = r->src.marker_list; m != NULL;
	     m = m->next)
		jpeg_write_marker(&r->dst, m->marker, m->data, m->data_length);
}

/* What cameras put behind the end marker. */
static void
write_rest(struct recode *r)
{
	size_t rest = r->n - r->shape->end;

	if (rest > r->out->cap - r->out->n) {
		r->failed = WORKER_NO_GAIN;
		longjmp(r->jump, 1);
	}
	memcpy(r->out->data + r->out->n, r->p + r->shape->end, rest);
	r->out->n += rest;
}

/* ---- comparing ----------------------------------------------------------- */

static bool
same_tables(const JQUANT_TBL *a, const JQUANT_TBL *b)
{
	return a != NULL && b != NULL &&
	    memcmp(a->quantval, b->quantval, sizeof(a->quantval)) == 0;
}

static bool
same_blocks(struct recode *r, jvirt_barray_ptr x, jvirt_barray_ptr y, int ci)
{
	const jpeg_component_info *a = &r->src.comp_info[ci];
	size_t row = (size_t)a->width_in_blocks * sizeof(JBLOCK);

	for (JDIMENSION i = 0; i < a->height_in_blocks; i++) {
		JBLOCKARRAY p = r->src.mem->access_virt_barray(
		    (j_common_ptr)&r->src, x, i, 1, FALSE);
		JBLOCKARRAY q = r->check.mem->access_virt_barray(
		    (j_common_ptr)&r->check, y, i, 1, FALSE);

		if (memcmp(p[0], q[0], row) != 0)
			return false;
	}
	return true;
}

static bool
same_pictures(struct recode *r, jvirt_barray_ptr *x, jvirt_barray_ptr *y)
{
	const struct jpeg_decompress_struct *a = &r->src, *b = &r->check;

	if (a->image_width != b->image_width ||
	    a->image_height != b->image_height ||
	    a->num_components != b->num_components ||
	    a->jpeg_color_space != b->jpeg_color_space)
		return false;
	for (int i = 0; i < a->num_components; i++) {
		const jpeg_component_info *f = &a->comp_info[i];
		const jpeg_component_info *g = &b->comp_info[i];

		if (f->component_id != g->component_id ||
		    f->h_samp_factor != g->h_samp_factor ||
		    f->v_samp_factor != g->v_samp_factor ||
		    f->width_in_blocks != g->width_in_blocks ||
		    f->height_in_blocks != g->height_in_blocks ||
		    !same_tables(f->quant_table, g->quant_table) ||
		    !same_blocks(r, x[i], y[i], i))
			return false;
	}
	return true;
}

/* ---- the two ways -------------------------------------------------------- */

static enum worker_outcome
recode(struct recode *r)
{
	jvirt_barray_ptr *blocks, *again;
	size_t rest = r->n - r->shape->end;

	r->failed = WORKER_DAMAGED;
	read_head(r, &r->src, r->p, r->shape->end, true);
	blocks = jpeg_read_coefficients(&r->src);
	if (r->warnings > 0)
		return WORKER_DAMAGED;

	r->failed = WORKER_UNSUPPORTED;
	open_target(r);
	jpeg_copy_critical_parameters(&r->src, &r->dst);
	r->dst.write_JFIF_header = FALSE;
	r->dst.write_Adobe_marker = FALSE;
	r->dst.optimize_coding = TRUE;
	choose_scans(r);
	jpeg_write_coefficients(&r->dst, blocks);
	write_markers(r);
	jpeg_finish_compress(&r->dst);
	write_rest(r);

	r->failed = WORKER_DIFFERS;
	read_head(r, &r->check, r->out->data, r->out->n - rest, false);
	again = jpeg_read_coefficients(&r->check);
	return r->warnings == 0 && same_pictures(r, blocks, again)
	    ? WORKER_SMALLER
	    : WORKER_DIFFERS;
}

/* Eighths of the size (the library scales while it decodes). */
static unsigned
eighths(const struct jpeg_shape *s, unsigned max_dimension)
{
	uint64_t side = s->width > s->height ? s->width : s->height;

	if (max_dimension == 0 || side <= max_dimension)
		return 8;
	for (unsigned k = 7; k > 1; k--)
		if ((side * k + 7) / 8 <= max_dimension)
			return k;
	return 1;
}

static enum worker_outcome
code_anew(struct recode *r)
{
	JSAMPARRAY row;

	r->failed = WORKER_DAMAGED;
	read_head(r, &r->src, r->p, r->shape->end, true);
	if (r->src.jpeg_color_space != JCS_YCbCr &&
	    r->src.jpeg_color_space != JCS_GRAYSCALE)
		return WORKER_UNSUPPORTED;
	r->src.out_color_space = r->src.jpeg_color_space;
	r->src.scale_num = eighths(r->shape, r->max_dimension);
	r->src.scale_denom = 8;
	jpeg_start_decompress(&r->src);
	open_target(r);
	r->dst.image_width = r->src.output_width;
	r->dst.image_height = r->src.output_height;
	r->dst.input_components = r->src.output_components;
	r->dst.in_color_space = r->src.out_color_space;
	jpeg_set_defaults(&r->dst);
	jpeg_set_quality(&r->dst, (int)r->quality, TRUE);
	r->dst.write_JFIF_header = FALSE;
	r->dst.optimize_coding = TRUE;
	choose_scans(r);
	jpeg_start_compress(&r->dst, TRUE);
	write_markers(r);
	row = r->src.mem->alloc_sarray((j_common_ptr)&r->src, JPOOL_IMAGE,
	    r->src.output_width * (JDIMENSION)r->src.output_components, 1);
	while (r->src.output_scanline < r->src.output_height) {
		jpeg_read_scanlines(&r->src, row, 1);
		jpeg_write_scanlines(&r->dst, row, 1);
	}
	jpeg_finish_decompress(&r->src);
	if (r->warnings > 0)
		return WORKER_DAMAGED;
	r->failed = WORKER_UNSUPPORTED;
	jpeg_finish_compress(&r->dst);
	return WORKER_SMALLER;
}

static enum worker_outcome
look(struct recode *r)
{
	r->failed = WORKER_DAMAGED;
	read_head(r, &r->src, r->p, r->shape->end, false);
	jpeg_read_coefficients(&r->src);
	return r->warnings > 0 ? WORKER_DAMAGED : WORKER_PLAIN;
}

static enum worker_outcome
guarded(struct recode *r, recode_fn fn)
{
	if (setjmp(r->jump) != 0)
		return r->failed;
	return fn(r);
}

static enum worker_outcome
run(struct recode *r, recode_fn fn)
{
	const struct jpeg_shape *s = r->shape;
	enum worker_outcome o;

	if (s->flaw != NULL)
		return WORKER_DAMAGED;
	if (s->sof > 0xc2 || s->precision != 8 || s->width == 0 ||
	    s->height == 0)
		return WORKER_UNSUPPORTED;
	if ((uint64_t)s->width * s->height > r->lim->max_pixels ||
	    s->blocks > r->lim->max_memory / sizeof(JBLOCK) / 2 ||
	    s->scans > r->lim->max_scans)
		return WORKER_TOO_LARGE;
	jpeg_std_error(&r->err);
	r->err.error_exit = on_error;
	r->err.emit_message = on_message;
	r->err.output_message = on_output;
	r->progress.progress_monitor = on_progress;
	o = guarded(r, fn);
	jpeg_destroy((j_common_ptr)&r->src); /* zeroed ones are accepted */
	jpeg_destroy((j_common_ptr)&r->check);
	jpeg_destroy((j_common_ptr)&r->dst);
	return o;
}

bool
jpeg_built_in(void)
{
	return true;
}

enum worker_outcome
jpeg_progressive(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, struct image_out *out)
{
	struct recode r = {
		.p = p, .n = n, .shape = shape, .lim = lim, .out = out
	};
	enum worker_outcome o;

	/* MPF tells offsets of further pictures, which would change. */
	if (shape->several)
		return WORKER_UNSUPPORTED;
	/* nobody writes such with tables that could be better */
	if (shape->sof != 0xc2)
		return run(&r, recode);
	o = run(&r, look);
	return o == WORKER_PLAIN ? WORKER_NO_GAIN : o;
}

enum worker_outcome
jpeg_lossy(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, unsigned quality, unsigned max_dimension,
    struct image_out *out)
{
	struct recode r = { .p = p,
		.n = n,
		.shape = shape,
		.lim = lim,
		.out = out,
		.quality = quality,
		.max_dimension = max_dimension };

	if (shape->several)
		return WORKER_UNSUPPORTED;
	return run(&r, code_anew);
}

bool
jpeg_damaged(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim)
{
	struct recode r = { .p = p, .n = n, .shape = shape, .lim = lim };

	return run(&r, look) == WORKER_DAMAGED;
}

#else /* without libjpeg */

bool
jpeg_built_in(void)
{
	return false;
}

enum worker_outcome
jpeg_progressive(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, struct image_out *out)
{
	return shape->flaw != NULL ? WORKER_DAMAGED : WORKER_UNSUPPORTED;
}

enum worker_outcome
jpeg_lossy(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, unsigned quality, unsigned max_dimension,
    struct image_out *out)
{
	return shape->flaw != NULL ? WORKER_DAMAGED : WORKER_UNSUPPORTED;
}

bool
jpeg_damaged(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim)
{
	return shape->flaw != NULL;
}

#endif
