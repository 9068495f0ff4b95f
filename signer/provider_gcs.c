/*
 * provider_gcs.c - Google Cloud Storage by V4 signed URLs with an RSA key
 *
 * For service accounts. Accounts with HMAC keys go by type S3 with the
 * endpoint https://storage.googleapis.com and the region auto. Large uploads
 * use the XML API's multipart uploads, whose parts can be sent side by side
 * and again; a session URL of a resumable upload would be a credential of its
 * own that cannot be limited in time.
 */
#include "provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "bucket.h"
#include "json.h"
#include "problem.h"
#include "url.h"
#include "xalloc.h"
#include "xml_store.h"

#define ENDPOINT "https://storage.googleapis.com"
#define SIGNATURE_MAX 1024

struct gcs {
	struct bucket bucket;
	char *email;
	EVP_PKEY *key;
	EVP_MD *sha256; /* fetched once: looking it up costs */
};

static int
no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

static void
check_account(struct storage *s, struct gcs *x, struct problem *p)
{
	const char *text = s->text[ST_SERVICE_ACCOUNT], *email, *pem;
	cJSON *v;
	BIO *bio;

	if (text == NULL) {
		problem_field(p, "/serviceAccount",
		    "Set serviceAccount to the JSON key of a service account. "
		    "With an HMAC key use type S3, endpoint "
		    "https://storage.googleapis.com and region auto.",
		    "There are no credentials to sign with.");
		return;
	}
	v = json_parse(text, strlen(text), 65536, NULL);
	email = json_string(v, "client_email");
	pem = json_string(v, "private_key");
	if (email == NULL || email[0] == '\0' || pem == NULL) {
		problem_field(p, "/serviceAccount",
		    "Paste the whole JSON file that the console makes "
		    "(IAM, Service accounts, Keys, Add key).",
		    "It lacks %s.",
		    email == NULL ? "client_email" : "private_key");
		cJSON_Delete(v);
		return;
	}
	x->email = xstrdup(email);
	bio = BIO_new_mem_buf(pem, -1);
	x->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	ERR_clear_error();
	cJSON_Delete(v);
	if (x->key == NULL || EVP_PKEY_get_base_id(x->key) != EVP_PKEY_RSA ||
	    EVP_PKEY_get_bits(x->key) < 2048 ||
	    EVP_PKEY_get_size(x->key) > SIGNATURE_MAX)
		problem_field(p, "/serviceAccount",
		    "Make a new key in the console.",
		    "Its private_key is no RSA key of 2048 bits or more.");
}

static bool
bucket_ok(const char *b)
{
	size_t n = strlen(b);

	return n >= 3 && n <= 222 &&
	    strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == n &&
	    strstr(b, "..") == NULL && b[0] != '.' && b[0] != '-' &&
	    b[n - 1] != '.';
}

static void
check_place(struct storage *s, struct gcs *x, struct problem *p)
{
	const char *a = s->text[ST_ADDRESSING], *bucket = s->text[ST_BUCKET];
	bool virtual = a != NULL && strcasecmp(a, "virtual") == 0;
	bool cname = a != NULL && strcasecmp(a, "cname") == 0;

	if (a != NULL && !virtual && !cname && strcasecmp(a, "path") != 0) {
		problem_field(p, "/addressing", "Write path, virtual or cname.",
		    "There is no such style of addressing.");
		return;
	}
	bucket_endpoint(&x->bucket, s, ENDPOINT, p);
	if (cname && s->text[ST_ENDPOINT] == NULL)
		problem_field(p, "/endpoint", "For example https://BUCKET.",
		    "With cname the host that stands for the bucket is "
		    "needed.");
	if (bucket != NULL && !bucket_ok(bucket))
		problem_field(p, "/bucket",
		    "A bucket has 3 to 222 lower-case letters, digits, dots, "
		    "dashes and underlines.",
		    "This is no name of a bucket.");
	if (bucket != NULL && p->status == 0)
		bucket_place(&x->bucket, bucket,
		    virtual     ? BUCKET_VIRTUAL
			: cname ? BUCKET_CNAME
				: BUCKET_PATH);
}

static void
gcs_check(struct storage *s, struct problem *p)
{
	struct gcs *x = xcalloc(1, sizeof(*x));

	s->priv = x;
	x->bucket.bare = true;
	x->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (s->part_size == 0)
		s->part_size = 64 << 20;
	else if (s->part_size < 5 << 20)
		problem_field(p, "/partSize", "Use 5 MiB or more.",
		    "Smaller parts are not taken.");
	check_account(s, x, p);
	check_place(s, x, p);
}

static void
gcs_free_priv(void *priv)
{
	struct gcs *x = priv;

	bucket_fini(&x->bucket);
	free(x->email);
	EVP_PKEY_free(x->key);
	EVP_MD_free(x->sha256);
	free(x);
}

static void
gcs_hosts(const struct storage *s, cJSON *array)
{
	const struct gcs *x = s->priv;

	cJSON_AddItemToArray(array, cJSON_CreateString(x->bucket.host));
}

static int
rsa_sign(const char *s, size_t n, struct text *out, void *arg)
{
	const struct gcs *x = arg;
	uint8_t sig[SIGNATURE_MAX];
	char hex[2 * SIGNATURE_MAX + 1];
	size_t len = sizeof(sig);
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pc = NULL;
	int ok;

	ok = c != NULL &&
	    EVP_DigestSignInit(c, &pc, x->sha256, NULL, x->key) == 1 &&
	    EVP_DigestSign(c, sig, &len, (const uint8_t *)s, n) == 1;
	EVP_MD_CTX_free(c);
	if (!ok) {
		ERR_clear_error();
		return -EIO;
	}
	hex_encode(sig, len, hex);
	text_str(out, hex);
	return 0;
}

static int
gcs_sign(
    const struct storage *s, const struct sign_request *r, struct text *uri)
{
	struct gcs *x = s->priv;
	struct text path = { 0 };
	struct sigv4_request q;
	int rc = bucket_request(&x->bucket, r, &path, &q);

	if (rc != 0)
		return rc;
	rc = gcs_v4_presign(x->email,
	    s->text[ST_REGION] != NULL ? s->text[ST_REGION] : "auto", rsa_sign,
	    x, &q, uri);
	text_fini(&path);
	return rc;
}

static void
whole_headers(
    const struct storage *s, const struct upload *u, struct headers *h)
{
	char range[48];

	if (s->no_overwrite)
		headers_set(h, "x-goog-if-generation-match",
		    u->if_match != NULL ? u->if_match : "0");
	if (u->size >= 0) {
		snprintf(range, sizeof(range), "%lld,%lld", (long long)u->size,
		    (long long)u->size);
		headers_set(h, "x-goog-content-length-range", range);
	}
}

/* The ETag of the XML API is the MD5 of what was sent in one request. */
static int
gcs_recipe(const struct storage *s, const struct upload *u, struct recipe *r)
{
	static const struct xml_store store = {
		.prefix = "x-goog-",
		.whole_headers = whole_headers,
		.etag_is_md5 = true,
		.state_header = "x-goog-generation",
	};

	return xml_recipe(&store, s, u, r);
}

/* clang-format off */
static const struct answer answers[] = {
	{ 400, "ExpiredToken",           "sign" },
	{ 403, "SignatureDoesNotMatch",  "wait" },
	{ 403, "UserProjectAccountProblem", "wait" },
	{ 403, NULL,                     "sign" },
	{ 412, NULL,                     "verify" },
	{ 409, NULL,                     "retry" },
	{ 404, "NoSuchUpload",           "verify" },
	{ 404, NULL,                     "wait" },
	{ 400, "EntityTooLarge",         "quarantine" },
	{ 400, "KeyTooLongError",        "quarantine" },
	{ 400, "BadDigest",              "retry" },
	{ 400, "InvalidPart",            "verify" },
	{ 400, NULL,                     "wait" },
};
/* clang-format on */

const struct provider provider_gcs = {
	.type = "GCS",
	.texts = ST_BIT(ST_ENDPOINT) | ST_BIT(ST_BUCKET) | ST_BIT(ST_REGION) |
	    ST_BIT(ST_ADDRESSING) | ST_BIT(ST_SERVICE_ACCOUNT) |
	    ST_BIT(ST_STORAGE_CLASS),
	.required = ST_BIT(ST_BUCKET),
	.expires_max = SIGV4_EXPIRES_MAX,
	.check = gcs_check,
	.free_priv = gcs_free_priv,
	.hosts = gcs_hosts,
	.sign = gcs_sign,
	.recipe = gcs_recipe,
	.answers = answers,
	.answers_n = sizeof(answers) / sizeof(answers[0]),
};
