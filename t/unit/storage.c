/*
 * storage.c - tests of documents of storages, durations, endpoints, seals
 */
#include "storage.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "duration.h"
#include "endpoint.h"
#include "file_uri.h"
#include "json.h"
#include "problem.h"
#include "provider.h"
#include "recipe.h"
#include "seal.h"
#include "storage_world.h"
#include "xalloc.h"

/* A storage of Google's with a key of its own; more: further fields. */
static char *
gcs_doc(const char *more)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	BIO *b = BIO_new(BIO_s_mem());
	cJSON *account = cJSON_CreateObject();
	char *pem, *line, *doc;
	long n;

	assert_non_null(key);
	assert_int_equal(
	    PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL),
	    1);
	n = BIO_get_mem_data(b, &pem);
	pem = xstrndup(pem, (size_t)n);
	json_add_text(account, "client_email", "edge@p.iam");
	json_add_text(account, "private_key", pem);
	line = json_line(account);
	doc = xasprintf("{\"type\":\"GCS\",\"bucket\":\"bkt\","
			"\"serviceAccount\":%s%s}",
	    line, more);
	free(line);
	free(pem);
	cJSON_Delete(account);
	BIO_free(b);
	EVP_PKEY_free(key);
	return doc;
}

static void
test_s3(void **state)
{
	has_host(S3 "}", "bkt.s3.us-east-1.amazonaws.com");
	has_host(S3 ",\"region\":\"cn-north-1\"}",
	    "bkt.s3.cn-north-1.amazonaws.com.cn");
	has_host(S3 ",\"addressing\":\"path\"}", "s3.us-east-1.amazonaws.com");
	has_host(
	    S3 ",\"endpoint\":\"https://S3.Example:443/x/\"}", "s3.example");
	has_host(S3 ",\"endpoint\":\"minio:9000\"}", "minio:9000");
	has_host(S3 ",\"endpoint\":\"minio:9000\",\"addressing\":\"virtual\"}",
	    "bkt.minio:9000");
	has_host(S3 ",\"endpoint\":\"http://[::1]:9000\",\"allowHttp\":true}",
	    "[::1]:9000");
	has_host("{\"type\":\"s3\",\"bucket\":\"a.b\"," KEYS "}",
	    "s3.us-east-1.amazonaws.com");
	has_host("{\"type\":\"s3\",\"bucket\":\"Old_Bucket\"," KEYS "}",
	    "s3.us-east-1.amazonaws.com");
	bad("{\"type\":\"s3\",\"bucket\":\"Old_Bucket\"," KEYS
	    ",\"addressing\":\"virtual\"}",
	    "/addressing");
	bad(S3 ",\"endpoint\":\"http://minio\"}", "/endpoint");
	bad(S3 ",\"endpoint\":\"https://u@minio\"}", "/endpoint");
	bad(S3 ",\"endpoint\":\"https://x?y\"}", "/endpoint");
	bad(S3 ",\"endpoint\":\"https://10.0.0.1\",\"addressing\":\"virtual\"}",
	    "/addressing");
	bad(S3 ",\"region\":\"a/b\"}", "/region");
	bad(S3 ",\"container\":\"x\"}", "/container");
	bad(S3 ",\"partSize\":1048576}", "/partSize");
	bad("{\"type\":\"S3\"," KEYS "}", "/bucket");
	bad("{\"type\":\"S3\",\"bucket\":\"bkt\"}", "/accessKeyId");
	bad("{\"type\":\"S3\",\"bucket\":\"../x\"," KEYS "}", "/bucket");
	bad(S3 ",\"expirationDuration\":\"P7DT1S\"}", "/expirationDuration");
	bad(S3 ",\"expirationDuration\":\"PT0S\"}", "/expirationDuration");
	bad(S3 ",\"headers\":{\"x\":\"a\\r\\nb\"}}", "/headers/x");
	bad(S3 ",\"headers\":{\"a b\":\"c\"}}", "/headers/a b");
	bad(S3 ",\"headers\":{\"Content-Length\":\"1\"}}",
	    "/headers/Content-Length");
	bad(S3 ",\"allowHttp\":\"yes\"}", "/allowHttp");
	bad(S3 ",\"region\":7}", "/region");
	bad("[]", "");
	bad("{}", "/type");
	has_host(S3 ",\"endpoint\":\"https://s3.example.\"}", "s3.example");
	/* What comes along with copying, and would be signed with. */
	bad("{\"type\":\"S3\",\"bucket\":\"bkt\",\"accessKeyId\":\"AK\","
	    "\"secretAccessKey\":\"SK\\n\"}",
	    "/secretAccessKey");
	bad("{\"type\":\"S3\",\"bucket\":\"bkt\",\"accessKeyId\":\" AK\","
	    "\"secretAccessKey\":\"SK\"}",
	    "/accessKeyId");
	bad(S3 ",\"storageClass\":\"A\\nB\"}", "/storageClass");
	bad(S3 ",\"a/b~c\":1}", "/a~1b~0c");
	bad(S3 ",\"headers\":{\"a/b\":\"c\"}}", "/headers/a~1b");
	bad(S3 ",\"headers\":{\"x-a\":\"c\",\"X-A\":\"d\"}}", "/headers/X-A");
	bad(S3 ",\"headers\":{\"x-amz-date\":\"c\"}}", "/headers/x-amz-date");
	/* Agents refuse a recipe with one of them. */
	bad(S3 ",\"headers\":{\"Keep-Alive\":\"c\"}}", "/headers/Keep-Alive");
	bad(S3 ",\"headers\":{\"Trailer\":\"c\"}}", "/headers/Trailer");
	bad(S3 ",\"headers\":{\"Proxy-Connection\":\"c\"}}",
	    "/headers/Proxy-Connection");
	bad(S3 ",\"headers\":{\"Content-MD5\":\"c\"}}", "/headers/Content-MD5");
}

/* What people write into an endpoint. */
static void
test_s3_endpoint(void **state)
{
	struct storage *s =
	    good(S3 ",\"endpoint\":\"https://s3.eu-west-1.amazonaws.com\"}");

	assert_string_equal(s->text[ST_REGION], "eu-west-1");
	assert_int_equal(cJSON_GetArraySize(s->warnings), 0);
	storage_free(s);
	has_warnings(S3 ",\"region\":\"eu-west-2\",\"endpoint\":"
			"\"https://s3.eu-west-1.amazonaws.com\"}",
	    1);
	has_warnings(S3 ",\"endpoint\":\"https://s3.amazonaws.com\"}", 0);
	has_warnings(S3 ",\"endpoint\":\"https://bkt.s3.example.com\"}", 1);
}

static void
test_gcs(void **state)
{
	static const char *const wrong[] = { "{\"bucket\":\"..\"}",
		"{\"bucket\":\"gs://bkt\"}", "{\"bucket\":\"Bkt\"}",
		"{\"addressing\":\"cname\"}" };
	static const char *const at[] = { "/bucket", "/bucket", "/bucket",
		"/endpoint" };

	for (size_t i = 0; i < 4; i++) {
		char *account = gcs_doc("");
		cJSON *doc = json(account), *more = json(wrong[i]);
		char *line;

		cJSON_DeleteItemFromObject(doc, more->child->string);
		cJSON_AddItemToObject(doc, more->child->string,
		    cJSON_Duplicate(more->child, true));
		line = json_line(doc);
		bad(line, at[i]);
		free(line);
		free(account);
		cJSON_Delete(more);
		cJSON_Delete(doc);
	}
}

/* Empty texts and nulls stand for what is not there, whatever the field. */
static void
test_absent(void **state)
{
	static const char *const names[] = { "endpoint", "region", "allowHttp",
		"noOverwrite", "headers", "partSize", "expirationDuration",
		"certificate", "connectionString", "firmwareRoot", "name" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *empty = xasprintf(S3 ",\"%s\":\"\"}", names[i]);
		char *null = xasprintf(S3 ",\"%s\":null}", names[i]);

		has_warnings(empty, 0);
		has_warnings(null, 0);
		free(empty);
		free(null);
	}
	bad(S3 ",\"regoin\":\"\"}", "/regoin");
	/* It ends some day, and the storage with it. */
	has_warnings(S3 ",\"sessionToken\":\"t\"}", 1);
}

static void
test_certificate(void **state)
{
	bad("{\"type\":\"FILE\",\"certificate\":\"x\"}", "/certificate");
	bad("{\"type\":\"FILE\",\"certificate\":\"-----BEGIN CERTIFICATE-----"
	    "\\nAAAA\\n-----END CERTIFICATE-----\\n\"}",
	    "/certificate");
	bad("{\"type\":\"FILE\",\"certificate\":\"-----BEGIN PRIVATE KEY-----"
	    "\"}",
	    "/certificate");
}

static void
test_secrets(void **state)
{
	uint8_t key[32] = { 1 }, other[32] = { 2 };
	struct seal *seal = seal_new(key), *wrong = seal_new(other);
	cJSON *doc = json(S3 "}"), *moved, *put;
	struct storage *s;
	char *text;

	storage_seal(seal, "acme", "default", doc);
	text = json_line(doc);
	assert_null(strstr(text, "\"SK\""));
	assert_non_null(strstr(text, "\"AK\""));
	free(text);
	moved = cJSON_Duplicate(doc, true);
	assert_int_equal(
	    storage_unseal(seal, "acme", "elsewhere", moved), -EBADMSG);
	assert_int_equal(
	    storage_unseal(wrong, "acme", "default", moved), -EBADMSG);
	assert_int_equal(storage_unseal(seal, "acme", "default", doc), 0);
	assert_string_equal(json_string(doc, "secretAccessKey"), "SK");
	put = json(S3 "}");
	cJSON_ReplaceItemInObjectCaseSensitive(
	    put, "secretAccessKey", json("{\"set\":true}"));
	storage_keep_secrets(put, doc);
	assert_string_equal(json_string(put, "secretAccessKey"), "SK");
	s = good(S3 "}");
	cJSON_Delete(moved);
	moved = storage_show(seal, s);
	text = json_line(moved);
	assert_null(strstr(text, "\"SK\""));
	assert_non_null(strstr(text, "fingerprint"));
	free(text);
	storage_free(s);
	cJSON_Delete(moved);
	cJSON_Delete(put);
	cJSON_Delete(doc);
	seal_close(seal);
	seal_close(wrong);
}

static void
test_seal(void **state)
{
	uint8_t key[32] = { 7 };
	struct seal *s = seal_new(key);
	char *a = seal_text(s, "x", "secret"), *b = seal_text(s, "x", "secret");
	char *plain, a_print[17], b_print[17];

	assert_string_not_equal(a, b); /* a nonce each */
	assert_int_equal(seal_untext(s, "x", a, &plain), 0);
	assert_string_equal(plain, "secret");
	free(plain);
	assert_int_equal(seal_untext(s, "y", a, &plain), -EBADMSG);
	a[10] = a[10] == 'A' ? 'B' : 'A';
	assert_int_equal(seal_untext(s, "x", a, &plain), -EBADMSG);
	assert_int_equal(seal_untext(s, "x", "AAAA", &plain), -EBADMSG);
	assert_int_equal(seal_untext(s, "x", "", &plain), -EBADMSG);
	seal_fingerprint(s, "secret", a_print);
	seal_fingerprint(s, "Secret", b_print);
	assert_string_not_equal(a_print, b_print);
	free(a);
	free(b);
	seal_close(s);
}

static void
test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t s;
		const char *out;
	} rows[] = {
		{ "PT15M", 900, "PT15M" },
		{ "PT2M", 120, "PT2M" },
		{ "P7D", 604800, "P7D" },
		{ "P1W", 604800, "P7D" },
		{ "P1DT12H30M1S", 131401, "P1DT12H30M1S" },
		{ "PT3600S", 3600, "PT1H" },
		{ "PT0S", 0, "PT0S" },
	};
	static const char *const wrong[] = { "", "P", "PT", "15M", "P15M",
		"PT15", "PTM", "PT1.5M", "P1Y", "PT1M1H", "PT1M1M", "-PT1M",
		"PT1M ", "P1DT", "pt1m", "PT99999999999999999999S" };
	int64_t s;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *out;

		assert_int_equal(duration_parse(rows[i].text, &s), 0);
		assert_int_equal(s, rows[i].s);
		out = duration_format(s);
		assert_string_equal(out, rows[i].out);
		free(out);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (duration_parse(wrong[i], &s) == 0)
			fail_msg("%s was taken", wrong[i]);
}

static void
test_endpoint(void **state)
{
	static const char *const wrong[] = { "", "https://", "https://:80",
		"https://a:0", "https://a:65536", "https://a:b", "ftp://a",
		"https://a b", "https://a/?q", "https://a#f", "https://[::1",
		"https://[zz]", "https://u:p@a", "https://a\nb", "https://-a",
		"https://a..b", "https://.", "https://a..", "https://a/../b",
		"https://a/./b", "https://a/.." };
	struct endpoint e;

	assert_int_equal(endpoint_parse("HTTP://A.b:8080/x/y//", &e), 0);
	assert_string_equal(e.scheme, "http");
	assert_string_equal(e.host, "a.b");
	assert_int_equal(e.port, 8080);
	assert_string_equal(e.path, "/x/y");
	endpoint_fini(&e);
	/* The dot of the root is DNS's, not of the name in a certificate. */
	assert_int_equal(endpoint_parse("https://a.b.:8443/x", &e), 0);
	assert_string_equal(e.host, "a.b");
	assert_int_equal(e.port, 8443);
	endpoint_fini(&e);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (endpoint_parse(wrong[i], &e) == 0)
			fail_msg("%s was taken", wrong[i]);
}

/* What a signer has to refuse, of each provider. */
static void
test_refuse(void **state)
{
	char *gcs = gcs_doc("");
	const char *const docs[] = { S3 "}", AZ("") "}", gcs,
		"{\"type\":\"FILE\"}" };

	for (size_t i = 0; i < 4; i++) {
		struct storage *s = good(docs[i]);
		struct pair header = { "content-type", "a\r\nb" };
		struct sign_request r = { .method = "PUT",
			.key = "k",
			.at = 1767323045,
			.expires = 60 };
		struct text uri = { 0 };

		assert_int_equal(s->provider->sign(s, &r, &uri), 0);
		r.expires = 0;
		assert_int_equal(s->provider->sign(s, &r, &uri), -ERANGE);
		r.expires = -1;
		assert_int_equal(s->provider->sign(s, &r, &uri), -ERANGE);
		r.expires = s->provider->expires_max + 1;
		assert_int_equal(s->provider->sign(s, &r, &uri), -ERANGE);
		r.expires = 60;
		r.key = "";
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		r.key = "\xff\xfe";
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		r.key = "a\nb";
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		r.key = "k";
		r.headers = &header;
		r.headers_n = 1;
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		header = (struct pair){ "a\r\nb", "c" };
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		header = (struct pair){ "a", "\x7f" };
		assert_int_equal(s->provider->sign(s, &r, &uri), -EINVAL);
		text_fini(&uri);
		storage_free(s);
	}
	free(gcs);
}

static void
test_file_uri(void **state)
{
	struct hmac_key k, other;
	struct file_claim c = { .method = (char *)"PUT",
		.tenant = (char *)"acme",
		.storage = (char *)"default",
		.key = (char *)"gw/a b?&=%.jpg",
		.type = (char *)"image/jpeg",
		.size = 7,
		.expiry = 1767323045 },
			  got;
	struct text uri = { 0 };
	char *query;

	hmac_key_init(&k, "key", 3);
	hmac_key_init(&other, "kex", 3);
	file_uri_write(&k, &c, &uri);
	query = strchr(uri.s, '?');
	*query++ = '\0';
	assert_int_equal(
	    file_uri_parse(&other, uri.s, query, &got), -EKEYREJECTED);
	assert_int_equal(file_uri_parse(&k, uri.s, "X-Edge-Method=PUT", &got),
	    -EKEYREJECTED);
	assert_int_equal(file_uri_parse(&k, uri.s, "", &got), -EKEYREJECTED);
	assert_int_equal(file_uri_parse(&k, uri.s, query, &got), 0);
	assert_string_equal(got.key, c.key);
	assert_string_equal(got.type, c.type);
	assert_null(got.encoding);
	assert_int_equal(got.size, 7);
	assert_int_equal(got.expiry, c.expiry);
	file_claim_fini(&got);
	text_fini(&uri);
}

/* Parts of a large upload: start, each part, finish. */
static void
test_parts(void **state)
{
	char *gcs = gcs_doc(",\"partSize\":5242880");
	const char *const docs[] = { S3 ",\"partSize\":5242880}",
		AZ("") ",\"partSize\":5242880}", gcs };
	cJSON *kept = json("{\"uploadId\":\"id&1\",\"part.1\":\"\\\"a\\\"\","
			   "\"part.2\":\"\\\"b\\\"\"}");

	for (size_t i = 0; i < 3; i++) {
		struct storage *s = good(docs[i]);
		struct upload u = { .method = "PUT",
			.key = "k",
			.size = 5242881,
			.step = STEP_START,
			.at = 1767323045,
			.expires = 60,
			.kept = kept };
		struct recipe r = { cJSON_CreateObject() };
		const cJSON *rq, *body;
		int64_t v;

		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		rq = cJSON_GetObjectItem(r.json, "parts");
		assert_int_equal(json_int(rq, "count", 0, 9, &v), 0);
		assert_int_equal(v, 2);
		cJSON_Delete(r.json);
		u.step = STEP_PART;
		u.part = 2;
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		rq = cJSON_GetArrayItem(
		    cJSON_GetObjectItem(r.json, "requests"), 0);
		body = cJSON_GetObjectItem(
		    cJSON_GetObjectItem(rq, "body"), "range");
		assert_int_equal(json_int(body, "length", 0, 9, &v), 0);
		assert_int_equal(v, 1);
		cJSON_Delete(r.json);
		u.part = 3;
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), -EINVAL);
		cJSON_Delete(r.json);
		u.step = STEP_FINISH;
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		assert_int_equal(
		    cJSON_GetArraySize(cJSON_GetObjectItem(r.json, "requests")),
		    2);
		cJSON_Delete(r.json);
		u.step = STEP_ABORT;
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		cJSON_Delete(r.json);
		/* The largest object that its parts can make, and more. */
		u.step = STEP_START;
		u.size = i == 1 ? 30000 * (4000LL << 20) : 10000 * (5LL << 30);
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		rq = cJSON_GetObjectItem(r.json, "parts");
		assert_int_equal(json_int(rq, "count", 0, 50000, &v), 0);
		assert_int_equal(v, i == 1 ? 30000 : 10000);
		assert_int_equal(json_int(rq, "size", 0, 5LL << 30, &v), 0);
		cJSON_Delete(r.json);
		u.size++;
		r.json = cJSON_CreateObject();
		assert_int_equal(s->provider->recipe(s, &u, &r), -EFBIG);
		cJSON_Delete(r.json);
		storage_free(s);
	}
	free(gcs);
	cJSON_Delete(kept);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s3),
		cmocka_unit_test(test_s3_endpoint),
		cmocka_unit_test(test_gcs),
		cmocka_unit_test(test_absent),
		cmocka_unit_test(test_certificate),
		cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_seal),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_endpoint),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_file_uri),
		cmocka_unit_test(test_parts),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	hmac_key_init(&env.file_key, "k", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
