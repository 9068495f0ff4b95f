/*
 * worker_jxl.c - JPEG XL by libjxl, for readers that can take it
 *
 * A JPEG is transcoded with the data from which the identical file can be
 * made again (djxl IN.jxl OUT.jpg); we make it again and compare octet by
 * octet. A raw frame is coded lossless and its pixels are decoded and
 * compared. One thread, no colour management: lossless needs none.
 */
#include "config.h"
#include "worker_codec.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JXL
#include <jxl/decode.h>
#include <jxl/encode.h>

/* More effort gains nothing for JPEGs; for frames it costs ten times more. */
#define EFFORT_JPEG 3
#define EFFORT_RAW 1
/* A box of our own: the raw file's header, so that nothing of it is lost. */
#define BOX "ehrh"
#define HEAD_WITHIN 256
/* Octets that the library takes for a pixel, measured and rounded up. */
#define OCTETS_JPEG 48
#define OCTETS_RAW 64

/* ---- writing ------------------------------------------------------------- */

static enum worker_outcome
drain(JxlEncoder *enc, struct image_out *out)
{
	uint8_t *next = out->data;
	size_t room = out->cap;

	switch (JxlEncoderProcessOutput(enc, &next, &room)) {
	case JXL_ENC_SUCCESS:
		out->n = out->cap - room;
		return WORKER_SMALLER;
	case JXL_ENC_NEED_MORE_OUTPUT:
		return WORKER_NO_GAIN;
	default:
		return WORKER_FAILED;
	}
}

static enum worker_outcome
encode_jpeg(const uint8_t *p, size_t n, struct image_out *out)
{
	JxlEncoder *enc = JxlEncoderCreate(NULL);
	JxlEncoderFrameSettings *fs;
	enum worker_outcome o = WORKER_UNSUPPORTED;

	if (enc == NULL)
		return WORKER_FAILED;
	fs = JxlEncoderFrameSettingsCreate(enc, NULL);
	if (JxlEncoderUseContainer(enc, JXL_TRUE) != JXL_ENC_SUCCESS ||
	    JxlEncoderStoreJPEGMetadata(enc, JXL_TRUE) != JXL_ENC_SUCCESS ||
	    JxlEncoderFrameSettingsSetOption(fs, JXL_ENC_FRAME_SETTING_EFFORT,
		EFFORT_JPEG) != JXL_ENC_SUCCESS ||
	    JxlEncoderAddJPEGFrame(fs, p, n) != JXL_ENC_SUCCESS)
		goto out;
	JxlEncoderCloseInput(enc);
	o = drain(enc, out);
out:
	JxlEncoderDestroy(enc);
	return o;
}

static JxlPixelFormat
pixel_format(const struct raw_shape *s)
{
	return (JxlPixelFormat){ .num_channels = s->channels,
		.data_type = s->bits == 8 ? JXL_TYPE_UINT8 : JXL_TYPE_UINT16,
		.endianness = JXL_BIG_ENDIAN };
}

static enum worker_outcome
encode_raw(const uint8_t *pixels, size_t n, const uint8_t *head,
    const struct raw_shape *s, struct image_out *out)
{
	JxlEncoder *enc = JxlEncoderCreate(NULL);
	JxlEncoderFrameSettings *fs;
	JxlPixelFormat format = pixel_format(s);
	JxlBasicInfo info;
	JxlColorEncoding colour;
	enum worker_outcome o = WORKER_UNSUPPORTED;

	if (enc == NULL)
		return WORKER_FAILED;
	JxlEncoderInitBasicInfo(&info);
	info.xsize = s->width;
	info.ysize = s->height;
	info.bits_per_sample = s->bits;
	info.num_color_channels = s->channels;
	info.uses_original_profile = JXL_TRUE;
	JxlColorEncodingSetToSRGB(&colour, s->channels == 1);
	fs = JxlEncoderFrameSettingsCreate(enc, NULL);
	if (JxlEncoderUseContainer(enc, JXL_TRUE) != JXL_ENC_SUCCESS ||
	    JxlEncoderUseBoxes(enc) != JXL_ENC_SUCCESS ||
	    JxlEncoderAddBox(enc, BOX, head, s->offset, JXL_FALSE) !=
		JXL_ENC_SUCCESS ||
	    JxlEncoderSetBasicInfo(enc, &info) != JXL_ENC_SUCCESS ||
	    JxlEncoderSetColorEncoding(enc, &colour) != JXL_ENC_SUCCESS ||
	    JxlEncoderSetFrameLossless(fs, JXL_TRUE) != JXL_ENC_SUCCESS ||
	    JxlEncoderFrameSettingsSetOption(fs, JXL_ENC_FRAME_SETTING_EFFORT,
		EFFORT_RAW) != JXL_ENC_SUCCESS ||
	    JxlEncoderAddImageFrame(fs, &format, pixels, n) != JXL_ENC_SUCCESS)
		goto out;
	JxlEncoderCloseInput(enc);
	o = drain(enc, out);
out:
	JxlEncoderDestroy(enc);
	return o;
}

/* ---- reading back -------------------------------------------------------- */

/* Is what the container restores the n octets at p? */
static bool
restores_jpeg(const struct image_out *in, const uint8_t *p, size_t n)
{
	JxlDecoder *dec = JxlDecoderCreate(NULL);
	uint8_t *back = NULL;
	size_t left = n + 1;
	bool same = false;

	if (dec == NULL)
		return false;
	back = malloc(n + 1);
	if (back == NULL ||
	    JxlDecoderSubscribeEvents(
		dec, JXL_DEC_JPEG_RECONSTRUCTION | JXL_DEC_FULL_IMAGE) !=
		JXL_DEC_SUCCESS ||
	    JxlDecoderSetInput(dec, in->data, in->n) != JXL_DEC_SUCCESS)
		goto out;
	JxlDecoderCloseInput(dec);
	if (JxlDecoderProcessInput(dec) != JXL_DEC_JPEG_RECONSTRUCTION ||
	    JxlDecoderSetJPEGBuffer(dec, back, n + 1) != JXL_DEC_SUCCESS ||
	    JxlDecoderProcessInput(dec) != JXL_DEC_FULL_IMAGE)
		goto out;
	left = JxlDecoderReleaseJPEGBuffer(dec);
	same = left == 1 && memcmp(back, p, n) == 0;
out:
	JxlDecoderDestroy(dec);
	free(back);
	return same;
}

static bool
restores_pixels(const struct image_out *in, const struct raw_shape *s,
    const uint8_t *pixels, size_t n)
{
	JxlDecoder *dec = JxlDecoderCreate(NULL);
	JxlPixelFormat format = pixel_format(s);
	JxlBasicInfo info;
	uint8_t *back = NULL;
	bool same = false;

	if (dec == NULL)
		return false;
	back = malloc(n);
	if (back == NULL ||
	    JxlDecoderSubscribeEvents(dec,
		JXL_DEC_BASIC_INFO | JXL_DEC_FULL_IMAGE) != JXL_DEC_SUCCESS ||
	    JxlDecoderSetInput(dec, in->data, in->n) != JXL_DEC_SUCCESS)
		goto out;
	JxlDecoderCloseInput(dec);
	if (JxlDecoderProcessInput(dec) != JXL_DEC_BASIC_INFO ||
	    JxlDecoderGetBasicInfo(dec, &info) != JXL_DEC_SUCCESS ||
	    info.xsize != s->width || info.ysize != s->height ||
	    info.bits_per_sample != s->bits ||
	    info.num_color_channels != s->channels ||
	    JxlDecoderProcessInput(dec) != JXL_DEC_NEED_IMAGE_OUT_BUFFER ||
	    JxlDecoderSetImageOutBuffer(dec, &format, back, n) !=
		JXL_DEC_SUCCESS ||
	    JxlDecoderProcessInput(dec) != JXL_DEC_FULL_IMAGE)
		goto out;
	same = memcmp(back, pixels, n) == 0;
out:
	JxlDecoderDestroy(dec);
	free(back);
	return same;
}

/* The box with the header stands before the pixels. */
static bool
has_head(const struct image_out *in, const uint8_t *head, size_t n)
{
	size_t most = n + HEAD_WITHIN < in->n ? n + HEAD_WITHIN : in->n;

	return memmem(in->data, most, head, n) != NULL;
}

/* ---- the two ways -------------------------------------------------------- */

bool
jxl_built_in(void)
{
	return true;
}

enum worker_outcome
jxl_from_jpeg(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, struct image_out *out)
{
	uint64_t pixels = (uint64_t)shape->width * shape->height;
	enum worker_outcome o;

	if (shape->flaw != NULL)
		return WORKER_DAMAGED;
	if (shape->sof > 0xc2 || shape->precision != 8 || pixels == 0 ||
	    (shape->components != 1 && shape->components != 3))
		return WORKER_UNSUPPORTED;
	if (pixels > lim->max_pixels ||
	    pixels > lim->max_memory / OCTETS_JPEG ||
	    shape->scans > lim->max_scans)
		return WORKER_TOO_LARGE;
	o = encode_jpeg(p, n, out);
	if (o == WORKER_UNSUPPORTED && jpeg_damaged(p, n, shape, lim))
		return WORKER_DAMAGED;
	if (o != WORKER_SMALLER)
		return o;
	return restores_jpeg(out, p, n) ? WORKER_SMALLER : WORKER_DIFFERS;
}

enum worker_outcome
jxl_from_raw(const uint8_t *p, const struct raw_shape *s,
    const struct image_limits *lim, struct image_out *out)
{
	size_t row = (size_t)s->width * s->channels * (s->bits > 8 ? 2 : 1);
	size_t n = row * s->height;
	uint64_t count = (uint64_t)s->width * s->height;
	const uint8_t *pixels = p + s->offset;
	uint8_t *turned = NULL; /* in the library's order */
	enum worker_outcome o;

	if (count > lim->max_pixels || count > lim->max_memory / OCTETS_RAW)
		return WORKER_TOO_LARGE;
	if (s->bgr || s->bottom_up || s->stride != row) {
		pixels = turned = malloc(n);
		if (turned == NULL)
			return WORKER_TOO_LARGE;
		for (uint32_t y = 0; y < s->height; y++)
			raw_row(p, s, y, turned + y * row);
	}
	o = encode_raw(pixels, n, p, s, out);
	if (o == WORKER_SMALLER &&
	    (!restores_pixels(out, s, pixels, n) ||
		!has_head(out, p, s->offset)))
		o = WORKER_DIFFERS;
	free(turned);
	return o;
}

#else /* without libjxl */

bool
jxl_built_in(void)
{
	return false;
}

enum worker_outcome
jxl_from_jpeg(const uint8_t *p, size_t n, const struct jpeg_shape *shape,
    const struct image_limits *lim, struct image_out *out)
{
	return shape->flaw != NULL ? WORKER_DAMAGED : WORKER_UNSUPPORTED;
}

enum worker_outcome
jxl_from_raw(const uint8_t *p, const struct raw_shape *s,
    const struct image_limits *lim, struct image_out *out)
{
	return WORKER_UNSUPPORTED;
}

#endif
