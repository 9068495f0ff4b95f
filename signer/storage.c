/*
 * storage.c - a storage service of a tenant
 *
 * One table names the fields of the document. A field that a provider does not
 * take is refused with what was meant, so that a slip of the pen does not
 * silently change where uploads go. All that is wrong is reported at once.
 */
#include "storage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ca_bundle.h"
#include "clock.h"
#include "duration.h"
#include "json.h"
#include "problem.h"
#include "provider.h"
#include "seal.h"
#include "xalloc.h"

#define EXPIRES_DEFAULT "PT15M"
#define TEXT_MAX 8192
#define PEM_MAX 65536

/* clang-format off */
static const struct {
	const char *name;
	bool secret;
	size_t max;
} texts[ST_TEXTS] = {
	[ST_ENDPOINT]          = { "endpoint",         false, 512 },
	[ST_CONNECTION_STRING] = { "connectionString", true,  TEXT_MAX },
	[ST_CONTAINER]         = { "container",        false, 64 },
	[ST_TENANT_ID]         = { "tenantId",         false, 128 },
	[ST_CLIENT_ID]         = { "clientId",         false, 128 },
	[ST_CLIENT_SECRET]     = { "clientSecret",     true,  1024 },
	[ST_AUTHORITY]         = { "authority",        false, 512 },
	[ST_SAS_VERSION]       = { "sasVersion",       false, 10 },
	[ST_BUCKET]            = { "bucket",           false, 255 },
	[ST_REGION]            = { "region",           false, 64 },
	[ST_ADDRESSING]        = { "addressing",       false, 16 },
	[ST_ACCESS_KEY_ID]     = { "accessKeyId",      false, 256 },
	[ST_SECRET_ACCESS_KEY] = { "secretAccessKey",  true,  1024 },
	[ST_SESSION_TOKEN]     = { "sessionToken",     true,  TEXT_MAX },
	[ST_ROLE_ARN]          = { "roleArn",          false, 2048 },
	[ST_EXTERNAL_ID]       = { "externalId",       false, 1224 },
	[ST_STS_ENDPOINT]      = { "stsEndpoint",      false, 512 },
	[ST_SERVICE_ACCOUNT]   = { "serviceAccount",   true,  16384 },
	[ST_STORAGE_CLASS]     = { "storageClass",     false, 64 },
	[ST_ACCESS_TIER]       = { "accessTier",       false, 16 },
	[ST_CERTIFICATE]       = { "certificate",      false, PEM_MAX },
	[ST_FIRMWARE_ROOT]     = { "firmwareRoot",     false, 256 },
};

/* What every type takes besides. The last row ends the list for problem_meant. */
static const char *const common[] = { "name", "type", "headers", "allowHttp",
	"noOverwrite", "expirationDuration", "partSize", "certificate",
	"firmwareRoot", NULL };
/* What GET shows and PUT lets be, so that one can be sent back as the other. */
static const char *const shown[] = { "certificateId", "hosts", "warnings",
	"status", "createdAt", "updatedAt", "version", NULL };
/* clang-format on */

static bool
in_list(const char *s, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(s, *list) == 0)
			return true;
	return false;
}

bool
name_ok(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= STORAGE_NAME_MAX && s[0] != '.' &&
	    strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == n;
}

bool
prefix_ok(const char *p)
{
	size_t n = strlen(p);

	if (n < 2 || n > 256 || p[n - 1] != '/' || !json_utf8(p, n))
		return false;
	for (const char *s = p; *s != '\0';) {
		size_t len = strcspn(s, "/");

		if (len == 0 || (len == 1 && s[0] == '.') ||
		    (len == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		for (size_t i = 0; i < len; i++)
			if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
				return false;
		s += len + 1;
	}
	return true;
}

void
storage_warn(struct storage *s, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	cJSON_AddItemToArray(s->warnings, cJSON_CreateString(buf));
}

void
storage_free(struct storage *s)
{
	if (s == NULL)
		return;
	if (s->priv != NULL)
		s->provider->free_priv(s->priv);
	for (size_t i = 0; i < ST_TEXTS; i++) {
		if (s->text[i] != NULL && texts[i].secret)
			explicit_bzero(s->text[i], strlen(s->text[i]));
		free(s->text[i]);
	}
	for (size_t i = 0; i < s->headers_n; i++) {
		free((char *)s->headers[i].name);
		free((char *)s->headers[i].value);
	}
	free(s->headers);
	free(s->certificate_id);
	cJSON_Delete(s->warnings);
	free(s->tenant);
	free(s->name);
	free(s);
}

/* ---- fields -------------------------------------------------------------- */

static int
text_index(const char *name)
{
	for (int i = 0; i < ST_TEXTS; i++)
		if (strcmp(name, texts[i].name) == 0)
			return i;
	return -1;
}

/* The name of the field that was meant, of those this type takes. */
static const char *
meant(const struct provider *pv, const char *name)
{
	const char *names[ST_TEXTS + 16];
	size_t n = 0;

	for (size_t i = 0; i < ST_TEXTS; i++)
		if ((pv->texts & ST_BIT(i)) != 0)
			names[n++] = texts[i].name;
	for (size_t i = 0; common[i] != NULL; i++)
		names[n++] = common[i];
	names[n] = NULL;
	return problem_meant(name, names);
}

static void
unknown_field(const struct provider *pv, const char *name, struct problem *p)
{
	const char *other = meant(pv, name);
	char *pointer = problem_pointer("", name), *hint;

	if (text_index(name) >= 0)
		hint = xasprintf(
		    "A storage of type %s does not use it.", pv->type);
	else if (other != NULL)
		hint = xasprintf("Did you mean %s?", other);
	else
		hint = xasprintf(
		    "A storage of type %s has no such field.", pv->type);
	problem_field(p, pointer, hint, "There is no field %.60s.", name);
	free(pointer);
	free(hint);
}

/* Blanks around it, and line ends, come with copying and are signed with. */
static bool
is_clean(int i, const char *text)
{
	size_t n = strlen(text);

	if (i == ST_CONNECTION_STRING || i == ST_SERVICE_ACCOUNT ||
	    i == ST_CERTIFICATE || n == 0)
		return true;
	for (size_t k = 0; k < n; k++)
		if ((unsigned char)text[k] < ' ' || text[k] == 0x7f)
			return false;
	return text[0] != ' ' && text[n - 1] != ' ';
}

static void
take_text(struct storage *s, int i, const cJSON *v, struct problem *p)
{
	char *pointer = xasprintf("/%s", texts[i].name), *text = NULL;

	if (i == ST_SERVICE_ACCOUNT && cJSON_IsObject(v))
		text = json_line(v);
	else if (cJSON_IsString(v))
		text = xstrdup(v->valuestring);
	else
		problem_field(p, pointer, "Put it in quotation marks.",
		    "This must be a text.");
	if (text != NULL && strlen(text) > texts[i].max)
		problem_field(p, pointer, NULL,
		    "This is longer than %zu octets.", texts[i].max);
	else if (text != NULL && !is_clean(i, text))
		problem_field(p, pointer, "Leave them out.",
		    "There are blanks around it, or line ends.");
	else if (text != NULL && text[0] != '\0') {
		s->text[i] = text;
		text = NULL;
	}
	free(text);
	free(pointer);
}

static void
take_bool(const cJSON *v, const char *pointer, bool *out, struct problem *p)
{
	if (cJSON_IsBool(v))
		*out = cJSON_IsTrue(v);
	else
		problem_field(p, pointer, "Write true or false.",
		    "This must be true or false.");
}

static void
take_expires(struct storage *s, const cJSON *v, struct problem *p)
{
	const char *text = v == NULL || cJSON_IsNull(v) ? EXPIRES_DEFAULT
	    : cJSON_IsString(v)                         ? v->valuestring
							: "";
	int64_t sec;
	char *most = duration_format(s->provider->expires_max), *hint;

	hint = xasprintf(
	    "An ISO 8601 duration such as PT15M, from PT1S to %s.", most);
	if (text[0] == '\0' && cJSON_IsString(v))
		text = EXPIRES_DEFAULT;
	if (duration_parse(text, &sec) != 0)
		problem_field(
		    p, "/expirationDuration", hint, "This is no duration.");
	else if (sec < 1 || sec > s->provider->expires_max)
		problem_field(p, "/expirationDuration", hint,
		    sec < 1 ? "A URI must be valid for a second at least."
			    : "A URI of this type cannot be valid for so "
			      "long.");
	else
		s->expires_s = sec;
	free(most);
	free(hint);
}

/* ---- the certificate ----------------------------------------------------- */

static void
check_certificate(struct storage *s, struct problem *p)
{
	const char *pem = s->text[ST_CERTIFICATE];
	char hex[65];

	if (pem == NULL)
		return;
	if (strstr(pem, "PRIVATE KEY") != NULL) {
		problem_field(p, "/certificate",
		    "Give the certificates of the authority only, and make "
		    "a new key: this one has been sent around.",
		    "There is a private key in it.");
		return;
	}
	if (ca_bundle_count(pem, &s->certificate_expires_s) <= 0) {
		problem_field(p, "/certificate",
		    "Give one or more blocks -----BEGIN CERTIFICATE----- of "
		    "the authority that signed the store's certificate.",
		    "This is no certificate in PEM.");
		return;
	}
	digest_sha256_hex(pem, strlen(pem), hex);
	s->certificate_id = xstrndup(hex, 32);
}

/* ---- the document -------------------------------------------------------- */

static const struct provider *
provider_of(const cJSON *doc, struct problem *p)
{
	const cJSON *given = cJSON_GetObjectItemCaseSensitive(doc, "type");
	const char *type = json_string(doc, "type");
	const struct provider *pv = type != NULL ? provider_find(type) : NULL;
	struct text hint = { 0 };

	if (pv != NULL)
		return pv;
	text_str(&hint, "One of ");
	provider_types(&hint);
	problem_field(p, "/type", hint.s, "%s",
	    type != NULL        ? "There is no such type of storage."
		: given != NULL ? "The type of the storage must be a text."
				: "The type of the storage is missing.");
	text_fini(&hint);
	return NULL;
}

static void
take_part_size(struct storage *s, const cJSON *doc, struct problem *p)
{
	int64_t v;

	if (json_int(doc, "partSize", 1 << 20, 5LL << 30, &v) == 0)
		s->part_size = v;
	else
		problem_field(p, "/partSize", "From 1048576 to 5368709120.",
		    "This must be a number of octets.");
}

static void
take_field(
    struct storage *s, const cJSON *doc, const cJSON *e, struct problem *p)
{
	const char *name = e->string;
	int i = text_index(name);

	if (cJSON_IsNull(e) || strcmp(name, "name") == 0 ||
	    strcmp(name, "type") == 0 ||
	    strcmp(name, "expirationDuration") == 0 || in_list(name, shown))
		return;
	if (i >= 0 &&
	    (i == ST_CERTIFICATE || i == ST_FIRMWARE_ROOT ||
		(s->provider->texts & ST_BIT(i)) != 0))
		take_text(s, i, e, p);
	else if (cJSON_IsString(e) && e->valuestring[0] == '\0' &&
	    (i >= 0 || in_list(name, common)))
		return; /* empty text = absent, even of another type */
	else if (strcmp(name, "headers") == 0)
		storage_take_headers(s, e, p);
	else if (strcmp(name, "allowHttp") == 0)
		take_bool(e, "/allowHttp", &s->allow_http, p);
	else if (strcmp(name, "noOverwrite") == 0)
		take_bool(e, "/noOverwrite", &s->no_overwrite, p);
	else if (strcmp(name, "partSize") == 0)
		take_part_size(s, doc, p);
	else
		unknown_field(s->provider, name, p);
}

/* It ends in a slash; "" (all of the bucket) cannot be told from absent. */
static void
check_root(struct storage *s, struct problem *p)
{
	char **root = &s->text[ST_FIRMWARE_ROOT], *with;
	size_t n;

	if (*root == NULL)
		return;
	n = strlen(*root);
	if ((*root)[n - 1] != '/') {
		with = xasprintf("%s/", *root);
		free(*root);
		*root = with;
	}
	if (!prefix_ok(*root))
		problem_field(p, "/firmwareRoot",
		    "For example firmware/ ; no . or .. or empty segments, at "
		    "most 256 octets.",
		    "Firmware cannot stand below this.");
}

static void
check_required(struct storage *s, struct problem *p)
{
	for (size_t i = 0; i < ST_TEXTS; i++) {
		char *pointer;

		if ((s->provider->required & ST_BIT(i)) == 0 ||
		    s->text[i] != NULL)
			continue;
		pointer = xasprintf("/%s", texts[i].name);
		problem_field(p, pointer,
		    "Name the one that you made at the provider.",
		    "A storage of type %s needs it.", s->provider->type);
		free(pointer);
	}
}

int
storage_parse(const struct sign_env *env, const char *tenant, const char *name,
    const cJSON *doc, struct problem *p, struct storage **s_out)
{
	const struct provider *pv;
	struct storage *s;
	const cJSON *e;

	if (!cJSON_IsObject(doc)) {
		problem_field(p, "", NULL, "The body must be a JSON object.");
		return -EINVAL;
	}
	pv = provider_of(doc, p);
	if (pv == NULL)
		return -EINVAL;
	s = xcalloc(1, sizeof(*s));
	s->tenant = xstrdup(tenant);
	s->name = xstrdup(name);
	s->provider = pv;
	s->env = env;
	s->no_overwrite = true;
	s->warnings = cJSON_CreateArray();
	cJSON_ArrayForEach(e, doc) take_field(s, doc, e, p);
	take_expires(
	    s, cJSON_GetObjectItemCaseSensitive(doc, "expirationDuration"), p);
	check_certificate(s, p);
	check_root(s, p);
	check_required(s, p);
	pv->check(s, p);
	if (p->status != 0) {
		storage_free(s);
		return -EINVAL;
	}
	*s_out = s;
	return 0;
}

cJSON *
storage_hosts(const struct storage *s)
{
	cJSON *a = cJSON_CreateArray();

	s->provider->hosts(s, a);
	return a;
}

/* ---- secrets ------------------------------------------------------------- */

static char *
about(const char *tenant, const char *name, size_t i)
{
	return xasprintf("storage/%s/%s/%s", tenant, name, texts[i].name);
}

void
storage_seal(
    const struct seal *seal, const char *tenant, const char *name, cJSON *doc)
{
	for (size_t i = 0; i < ST_TEXTS; i++) {
		cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, texts[i].name),
		      *o;
		char *plain, *sealed, *ad;

		if (!texts[i].secret || v == NULL ||
		    (!cJSON_IsString(v) && !cJSON_IsObject(v)))
			continue;
		plain =
		    cJSON_IsString(v) ? xstrdup(v->valuestring) : json_line(v);
		ad = about(tenant, name, i);
		sealed = seal_text(seal, ad, plain);
		o = cJSON_CreateObject();
		cJSON_AddStringToObject(o, "sealed", sealed);
		cJSON_ReplaceItemInObjectCaseSensitive(doc, texts[i].name, o);
		explicit_bzero(plain, strlen(plain));
		free(plain);
		free(sealed);
		free(ad);
	}
}

int
storage_unseal(
    const struct seal *seal, const char *tenant, const char *name, cJSON *doc)
{
	for (size_t i = 0; i < ST_TEXTS; i++) {
		cJSON *v = cJSON_GetObjectItemCaseSensitive(doc, texts[i].name);
		const char *sealed = json_string(v, "sealed");
		char *plain, *ad;
		int rc;

		if (!texts[i].secret || sealed == NULL)
			continue;
		ad = about(tenant, name, i);
		rc = seal_untext(seal, ad, sealed, &plain);
		free(ad);
		if (rc != 0)
			return rc;
		cJSON_ReplaceItemInObjectCaseSensitive(
		    doc, texts[i].name, cJSON_CreateString(plain));
		explicit_bzero(plain, strlen(plain));
		free(plain);
	}
	return 0;
}

/* What was found when it was set, and what has come since. */
static cJSON *
warnings_now(const struct storage *s)
{
	cJSON *list = cJSON_Duplicate(s->warnings, true);
	int64_t left = s->certificate_expires_s - clock_wall_ms() / 1000;
	char *text;

	if (s->certificate_expires_s == 0 || left > CERTIFICATE_WARN_S)
		return list;
	text = left <= 0 ? xstrdup("certificate has expired")
			 : xasprintf("certificate expires in %lld days",
			       (long long)(left / 86400));
	cJSON_AddItemToArray(list, cJSON_CreateString(text));
	free(text);
	return list;
}

cJSON *
storage_show(const struct seal *seal, const struct storage *s)
{
	cJSON *o = cJSON_CreateObject(), *h, *e;
	char *expires = duration_format(s->expires_s), print[17];

	json_add_text(o, "name", s->name);
	json_add_text(o, "type", s->provider->type);
	for (size_t i = 0; i < ST_TEXTS; i++) {
		if (s->text[i] == NULL)
			continue;
		if (!texts[i].secret) {
			json_add_text(o, texts[i].name, s->text[i]);
			continue;
		}
		seal_fingerprint(seal, s->text[i], print);
		e = cJSON_AddObjectToObject(o, texts[i].name);
		cJSON_AddTrueToObject(e, "set");
		cJSON_AddStringToObject(e, "fingerprint", print);
	}
	h = cJSON_AddObjectToObject(o, "headers");
	for (size_t i = 0; i < s->headers_n; i++)
		json_add_text(h, s->headers[i].name, s->headers[i].value);
	cJSON_AddBoolToObject(o, "allowHttp", s->allow_http);
	cJSON_AddBoolToObject(o, "noOverwrite", s->no_overwrite);
	json_add_text(o, "expirationDuration", expires);
	if (s->part_size != 0)
		json_add_int(o, "partSize", s->part_size);
	if (s->certificate_id != NULL)
		json_add_text(o, "certificateId", s->certificate_id);
	cJSON_AddItemToObject(o, "hosts", storage_hosts(s));
	cJSON_AddItemToObject(o, "warnings", warnings_now(s));
	free(expires);
	return o;
}

void
storage_keep_secrets(cJSON *doc, const cJSON *old)
{
	for (size_t i = 0; i < ST_TEXTS; i++) {
		const cJSON *v =
		    cJSON_GetObjectItemCaseSensitive(doc, texts[i].name);
		const cJSON *had =
		    cJSON_GetObjectItemCaseSensitive(old, texts[i].name);

		if (texts[i].secret && had != NULL &&
		    json_bool(v, "set", false))
			cJSON_ReplaceItemInObjectCaseSensitive(
			    doc, texts[i].name, cJSON_Duplicate(had, true));
	}
}
