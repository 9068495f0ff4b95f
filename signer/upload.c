/*
 * upload.c - one entry of POST /v1/sign: what is asked for, or why it is
 * refused
 *
 * All that a gateway says is checked here, once: providers take it as it is.
 */
#include "upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "json.h"
#include "provider.h"
#include "storage.h"
#include "xalloc.h"

#define SIZE_MAX_ (1LL << 50)

int
refuse(struct refusal *f, int status, const char *act, const char *hint,
    const char *fmt, const char *arg)
{
	f->status = status;
	f->act = act;
	f->hint = hint;
	f->title = xasprintf("%s%.300s", fmt, arg);
	return -ECANCELED;
}

/* A field of the entry can never be taken as it is. */
static int
bad(struct refusal *f, const char *field, const char *hint, const char *fmt,
    const char *arg)
{
	f->field = field;
	return refuse(f, 422, "quarantine", hint, fmt, arg);
}

/* A text field: 0, with *out NULL if it is absent or empty. */
static int
take_text(const cJSON *v, const char *name, size_t max, const char **out,
    struct refusal *f)
{
	const cJSON *e = cJSON_GetObjectItemCaseSensitive(v, name);

	*out = NULL;
	if (e == NULL || cJSON_IsNull(e))
		return 0;
	if (!cJSON_IsString(e) || strlen(e->valuestring) > max)
		return bad(
		    f, name, NULL, "This field is no text or too long: ", name);
	if (e->valuestring[0] != '\0')
		*out = e->valuestring;
	return 0;
}

static int
take_header_text(
    const cJSON *v, const char *name, const char **out, struct refusal *f)
{
	int rc = take_text(v, name, 255, out, f);
	struct pair p = { "x", *out };

	if (rc == 0 && *out != NULL && pair_check_header(&p) != 0)
		return bad(
		    f, name, NULL, "This cannot be sent as a header: ", name);
	return rc;
}

/* No empty, "." or ".." segments: a key must not leave its gateway's place. */
static bool
key_ok(const char *key)
{
	if (provider_check_key(key) != 0 || key[0] == '/')
		return false;
	while (*key != '\0') {
		size_t n = strcspn(key, "/");

		if ((n == 1 && key[0] == '.') ||
		    (n == 2 && key[0] == '.' && key[1] == '.'))
			return false;
		key += n + (key[n] == '/');
	}
	return true;
}

static bool
is_sha256(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static bool
metadata_name_ok(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= 64 && s[0] >= 'a' && s[0] <= 'z' &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n &&
	    strcmp(s, "sha256") != 0;
}

static int
take_metadata(
    const cJSON *v, struct pair *out, size_t *n_out, struct refusal *f)
{
	const cJSON *m = cJSON_GetObjectItemCaseSensitive(v, "metadata"), *e;

	*n_out = 0;
	if (m == NULL || cJSON_IsNull(m))
		return 0;
	if (!cJSON_IsObject(m) || cJSON_GetArraySize(m) > UPLOAD_METADATA_MAX)
		return bad(f, "metadata", NULL,
		    "This must be an object of at most 16 texts: ", "metadata");
	cJSON_ArrayForEach(e, m)
	{
		struct pair p = { e->string,
			cJSON_IsString(e) ? e->valuestring : NULL };

		if (!metadata_name_ok(p.name) || p.value == NULL ||
		    strlen(p.value) > 512 || pair_check_header(&p) != 0)
			return bad(f, "metadata", NULL,
			    "This cannot be metadata: ", e->string);
		out[(*n_out)++] = p;
	}
	return 0;
}

static int
take_step(const cJSON *v, struct upload *u, struct refusal *f)
{
	const char *step;
	int rc = take_text(v, "step", 32, &step, f);

	u->kept = cJSON_GetObjectItemCaseSensitive(v, "kept");
	u->part = 0;
	if (rc != 0)
		return rc;
	if (step == NULL)
		u->step = STEP_WHOLE;
	else if (strcmp(step, "start") == 0)
		u->step = STEP_START;
	else if (strcmp(step, "finish") == 0)
		u->step = STEP_FINISH;
	else if (strcmp(step, "abort") == 0)
		u->step = STEP_ABORT;
	else if (strcmp(step, "part") == 0 &&
	    json_int(v, "part", 1, 1000000, &u->part) == 0)
		u->step = STEP_PART;
	else
		return bad(f, "step",
		    "One of start, part (with its number in part), finish, "
		    "abort.",
		    "There is no such step: ", step);
	return 0;
}

int
upload_take(const cJSON *v, struct upload *u, struct pair *metadata,
    const char **storage, struct refusal *f)
{
	int rc = take_text(v, "storage", STORAGE_NAME_MAX, storage, f);

	if (rc == 0)
		rc = take_text(v, "method", 16, &u->method, f);
	if (rc == 0)
		rc = take_text(v, "device", DEVICE_MAX, &u->device, f);
	if (rc == 0)
		rc = take_text(v, "key", 1024, &u->key, f);
	if (rc == 0)
		rc = take_text(v, "sha256", 64, &u->sha256, f);
	if (rc == 0)
		rc = take_header_text(v, "contentType", &u->type, f);
	if (rc == 0)
		rc = take_header_text(v, "contentEncoding", &u->encoding, f);
	if (rc == 0)
		rc = take_step(v, u, f);
	if (rc == 0)
		rc = take_metadata(v, metadata, &u->metadata_n, f);
	if (rc != 0)
		return rc;
	u->metadata = metadata;
	if (*storage == NULL)
		*storage = "default";
	if (u->method == NULL)
		u->method = "PUT";
	if (u->key == NULL || !key_ok(u->key))
		return bad(f, "key",
		    "UTF-8, without controls, without . or .. segments, not "
		    "beginning with a slash; at most 1024 octets.",
		    "The key cannot be used", "");
	if (u->sha256 != NULL && !is_sha256(u->sha256))
		return bad(f, "sha256", "64 lower-case hexadecimal digits.",
		    "This is no SHA-256", "");
	u->size = -1;
	if (!cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(v, "size")))
		rc = json_int(v, "size", 0, SIZE_MAX_, &u->size);
	if (rc != 0 && rc != -ENOENT)
		return bad(
		    f, "size", NULL, "The size must be a number of octets", "");
	if (u->size < 0 && u->step != STEP_WHOLE && u->step != STEP_ABORT)
		return bad(
		    f, "size", NULL, "An upload in parts needs its size", "");
	return 0;
}
