/*
 * sign-uris.c - presigned URIs per second of one thread, and what they cannot
 * avoid
 *
 * sign-uris WHAT SECONDS prints how many a second of processor time. WHAT: s3,
 * azure, gcs (URIs by the signer's own code, from the storage's document on);
 * s3-recipe, ... (whole recipes, as POST /v1/sign answers them); hmac, hmac-evp
 * (a bare HMAC-SHA256 of a text as long as Azure's, its key prepared: by the
 * low-level calls, and by one EVP_MAC context that is used again); rsa (a bare
 * RSA-2048 signature, PKCS #1 v1.5, of a SHA-256).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "digest.h"
#include "json.h"
#include "problem.h"
#include "provider.h"
#include "recipe.h"
#include "storage.h"
#include "xalloc.h"

#define AT 1767225600 /* any day */
#define TO_SIGN 82    /* octets of what Azure signs for such a key */

static EVP_PKEY *rsa_key;
static struct storage *storage;
static EVP_MAC_CTX *mac;
static EVP_MD *sha256;
static struct hmac_key hmac;
static volatile unsigned sink;

/* A key that no other has, made quickly. */
static const char *
key_of(unsigned i)
{
	static struct text t;

	text_reset(&t);
	text_str(&t, "cam/1/");
	text_u64(&t, i);
	text_str(&t, ".jpg");
	return t.s;
}

static char *
service_account(void)
{
	cJSON *v = cJSON_CreateObject();
	BIO *bio = BIO_new(BIO_s_mem());
	char *pem, *s;
	long n;

	PEM_write_bio_PKCS8PrivateKey(bio, rsa_key, NULL, NULL, 0, NULL, NULL);
	n = BIO_get_mem_data(bio, &pem);
	pem = xstrndup(pem, (size_t)n);
	json_add_text(
	    v, "client_email", "bench@example.iam.gserviceaccount.com");
	json_add_text(v, "private_key", pem);
	s = json_line(v);
	free(pem);
	BIO_free(bio);
	cJSON_Delete(v);
	return s;
}

static void
open_storage(const char *type)
{
	static const char *const fields[][3] = {
		{ "s3", "endpoint", "https://127.0.0.1:9" },
		{ "s3", "bucket", "bench" },
		{ "s3", "region", "us-east-1" },
		{ "s3", "addressing", "path" },
		{ "s3", "accessKeyId", "AKIDEXAMPLE" },
		{ "s3", "secretAccessKey", "secret" },
		{ "azure", "connectionString",
		    "DefaultEndpointsProtocol=https;AccountName=bench;"
		    "AccountKey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIS"
		    "IjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==;"
		    "EndpointSuffix=core.windows.net" },
		{ "azure", "container", "bench" },
		{ "gcs", "bucket", "bench" },
	};
	static struct sign_env env = { .public_url = "https://127.0.0.1:9" };
	struct problem p = { 0 };
	cJSON *doc = cJSON_CreateObject();
	char *account = service_account();

	hmac_key_init(&env.file_key, "k", 1);
	json_add_text(doc, "type", type);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strcmp(fields[i][0], type) == 0)
			json_add_text(doc, fields[i][1], fields[i][2]);
	if (strcmp(type, "gcs") == 0)
		json_add_text(doc, "serviceAccount", account);
	if (storage_parse(&env, "bench", "bench", doc, &p, &storage) != 0) {
		fprintf(stderr, "sign-uris: %s\n", json_line(p.errors));
		exit(1);
	}
	free(account);
	cJSON_Delete(doc);
}

/* ---- one of each --------------------------------------------------------- */

static void
one_uri(unsigned i)
{
	static struct text uri;
	struct pair header = { "content-type", "image/jpeg" };
	struct sign_request r = { .method = "PUT",
		.key = key_of(i),
		.headers = &header,
		.headers_n = storage->provider == &provider_azure ? 0 : 1,
		.at = AT,
		.expires = 900 };

	text_reset(&uri);
	if (storage->provider->sign(storage, &r, &uri) != 0)
		abort();
	sink += (unsigned)uri.n;
}

static void
one_recipe(unsigned i)
{
	static const char sha[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b"
				  "934ca495991b7852b855";
	char *line;
	struct upload u = { .step = STEP_WHOLE,
		.method = "PUT",
		.key = key_of(i),
		.device = "cam",
		.size = 100000,
		.sha256 = sha,
		.type = "image/jpeg",
		.at = AT,
		.expires = 900 };
	struct recipe r = { cJSON_CreateObject() };

	if (storage->provider->recipe(storage, &u, &r) != 0)
		abort();
	line = json_line(r.json);
	sink += (unsigned)strlen(line);
	free(line);
	cJSON_Delete(r.json);
}

static void
one_hmac(unsigned i)
{
	static char text[TO_SIGN];
	uint8_t md[DIGEST_LEN];

	memcpy(text, &i, sizeof(i));
	hmac_sha256(&hmac, text, sizeof(text), md);
	sink += md[0];
}

static void
one_hmac_evp(unsigned i)
{
	static unsigned char text[TO_SIGN];
	uint8_t md[DIGEST_LEN];
	size_t n;

	memcpy(text, &i, sizeof(i));
	EVP_MAC_init(mac, NULL, 0, NULL);
	EVP_MAC_update(mac, text, sizeof(text));
	EVP_MAC_final(mac, md, &n, sizeof(md));
	sink += md[0];
}

static void
one_rsa(unsigned i)
{
	static EVP_PKEY_CTX *c;
	uint8_t md[DIGEST_LEN], out[512];
	size_t n = sizeof(out);

	digest_sha256(&i, sizeof(i), md);
	if (c == NULL) {
		c = EVP_PKEY_CTX_new(rsa_key, NULL);
		EVP_PKEY_sign_init(c);
		EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_PADDING);
		EVP_PKEY_CTX_set_signature_md(c, sha256);
	}
	if (EVP_PKEY_sign(c, out, &n, md, sizeof(md)) != 1)
		abort();
	sink += out[0];
}

/* ---- the clock ----------------------------------------------------------- */

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double
rate(void (*one)(unsigned i), double seconds)
{
	double begin = now(), end = begin + seconds, t;
	unsigned n = 0;

	do {
		for (int k = 0; k < 16; k++)
			one(n++);
		t = now();
	} while (t < end);
	return n / (t - begin);
}

static void (*prepare(char *what))(unsigned i)
{
	char *dash = strchr(what, '-');

	if (strcmp(what, "hmac") == 0)
		return one_hmac;
	if (strcmp(what, "hmac-evp") == 0)
		return one_hmac_evp;
	if (strcmp(what, "rsa") == 0)
		return one_rsa;
	if (dash != NULL)
		*dash = '\0';
	open_storage(what);
	return dash != NULL ? one_recipe : one_uri;
}

int
main(int argc, char **argv)
{
	OSSL_PARAM params[] = { OSSL_PARAM_construct_utf8_string(
				    OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
		OSSL_PARAM_construct_end() };
	void (*one)(unsigned i);

	if (argc != 3) {
		fprintf(stderr, "sign-uris WHAT SECONDS\n");
		return 64;
	}
	rsa_key = EVP_RSA_gen(2048);
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	mac = EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "HMAC", NULL));
	EVP_MAC_init(
	    mac, (const unsigned char *)"0123456789abcdef", 16, params);
	hmac_key_init(&hmac, "0123456789abcdef", 16);
	one = prepare(argv[1]);
	rate(one, 0.2);
	printf("%.0f\n", rate(one, atof(argv[2])));
	return 0;
}
