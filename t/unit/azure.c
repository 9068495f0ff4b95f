/*
 * azure.c - tests of storages of type AZURE: documents and recipes
 */
#include "storage_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "json.h"
#include "problem.h"
#include "provider.h"
#include "recipe.h"

static void
test_azure(void **state)
{
	struct storage *s;

	has_host(AZ("") "}", "acc.blob.core.windows.net");
	has_host(AZ("EndpointSuffix=core.chinacloudapi.cn") "}",
	    "acc.blob.core.chinacloudapi.cn");
	has_host(AZ("BlobEndpoint=https://b.example/") "}", "b.example");
	has_host(AZ("") ",\"endpoint\":\"https://my.example\"}", "my.example");
	s = good(AZ("") ",\"container\":\"\"}");
	assert_string_equal(s->text[ST_CONTAINER], "edgehaul");
	assert_int_equal(s->expires_s, 900);
	assert_int_equal(cJSON_GetArraySize(s->warnings), 0);
	storage_free(s);
	s = good("{\"type\":\"AZURE\",\"allowHttp\":true,"
		 "\"connectionString\":\"UseDevelopmentStorage=true\"}");
	storage_free(s);
	s = good(AZ("DefaultEndpointsProtocol=http") ",\"endpoint\":"
						     "\"https://x\"}");
	assert_int_equal(cJSON_GetArraySize(s->warnings), 2);
	storage_free(s);
	bad("{\"type\":\"AZURE\"}", "/connectionString");
	bad("{\"type\":\"AZURE\",\"connectionString\":\"AccountName=x\"}",
	    "/connectionString");
	bad("{\"type\":\"AZURE\",\"connectionString\":\"AccountName=x;"
	    "AccountKey=%%\"}",
	    "/connectionString");
	bad("{\"type\":\"AZURE\",\"connectionString\":\"rubbish\"}",
	    "/connectionString");
	bad(AZ("DefaultEndpointsProtocol=http") "}", "/connectionString");
	bad(AZ("") ",\"container\":\"Upper\"}", "/container");
	bad(AZ("") ",\"accessTier\":\"Warm\"}", "/accessTier");
	/* http in both, allowed: that it goes in clear is all there is to say
	 */
	s = good(
	    AZ("DefaultEndpointsProtocol=http") ",\"endpoint\":\"http://"
						"acc.blob.core.windows.net\","
						"\"allowHttp\":true}");
	assert_int_equal(cJSON_GetArraySize(s->warnings), 1);
	storage_free(s);
	/* https in the endpoint alone wins, also with allowHttp */
	s = good(
	    AZ("DefaultEndpointsProtocol=http") ",\"endpoint\":\"https://"
						"acc.blob.core.windows.net\","
						"\"allowHttp\":true}");
	assert_int_equal(cJSON_GetArraySize(s->warnings), 1);
	storage_free(s);
	s = good(AZ("") ",\"endpoint\":\"http://acc.blob.core.windows.net\"}");
	assert_int_equal(cJSON_GetArraySize(s->warnings), 1);
	storage_free(s);
}

/* Connection strings in the ways that Azure's documents and people write. */
static void
test_azure_strings(void **state)
{
#define CS(text) "{\"type\":\"AZURE\",\"connectionString\":\"" text "\""
	struct problem p = { 0 };
	struct storage *s;
	cJSON *doc;

	has_host(AZ("\\n") "}", "acc.blob.core.windows.net");
	has_host(CS(" AccountName = acc ;\\r\\n AccountKey=c2VjcmV0 ; ") "}",
	    "acc.blob.core.windows.net");
	has_host(CS("accountname=acc;ACCOUNTKEY=c2VjcmV0;") "}",
	    "acc.blob.core.windows.net");
	has_host(CS("UseDevelopmentStorage=true;DevelopmentStorageProxyUri="
		    "http://10.1.1.1:8888/") ",\"allowHttp\":true}",
	    "10.1.1.1:10000");
	bad(CS("AccountName=acc.evil.example/;AccountKey=c2VjcmV0") "}",
	    "/connectionString");
	bad(CS("UseDevelopmentStorage=true;DevelopmentStorageProxyUri=u@x") "}",
	    "/connectionString");
	/* A SAS cannot be cut down to an upload, and must not be given out. */
	doc = json(CS("BlobEndpoint=https://acc.blob.core.windows.net/;"
		      "SharedAccessSignature=sv=2022-11-02&sig=x%3D") "}");
	assert_int_equal(
	    storage_parse(&env, "acme", "default", doc, &p, &s), -EINVAL);
	assert_non_null(strstr(p.detail, "SharedAccessSignature"));
	problem_fini(&p);
	cJSON_Delete(doc);
	/* All that differs is told. */
	has_warnings(AZ("BlobEndpoint=https://h:1/acc") ",\"endpoint\":"
							"\"https://h:2/acc\"}",
	    1);
	has_warnings(AZ("BlobEndpoint=https://h:1/acc") ",\"endpoint\":"
							"\"https://h:1/b\"}",
	    1);
	has_warnings(AZ("BlobEndpoint=https://h:1/acc") ",\"endpoint\":"
							"\"https://h:1/acc/\"}",
	    0);
	has_warnings(AZ("BlobEndpoint=https://h:1/acc") ",\"endpoint\":"
							"\"https://h:1\"}",
	    0);
}

/* The secret goes by https to an authority that is given without a scheme. */
static void
test_azure_authority(void **state)
{
#define CLIENT                                                                 \
	"{\"type\":\"AZURE\",\"tenantId\":\"t\",\"clientId\":\"c\","           \
	"\"clientSecret\":\"s\",\"endpoint\":\"https://acc.example\""
	struct storage *s =
	    good(CLIENT ",\"authority\":\"Login.Example:8443/\"}");

	assert_string_equal(
	    s->text[ST_AUTHORITY], "https://login.example:8443");
	storage_free(s);
	bad(CLIENT ",\"authority\":\"http://login.example\"}", "/authority");
	bad(CLIENT ",\"authority\":\"https://u@login.example\"}", "/authority");
}

/* The header that everyone sets: of Put Blob, not of Put Block List. */
static void
test_azure_type(void **state)
{
#define TYPED(v) AZ("") ",\"headers\":{\"X-MS-Blob-Type\":\"" v "\"}}"
	static const enum step steps[] = { STEP_WHOLE, STEP_FINISH };
	struct storage *s = good(TYPED("BlockBlob"));

	for (size_t i = 0; i < 2; i++) {
		struct upload u = { .method = "PUT",
			.key = "k",
			.size = 5,
			.step = steps[i],
			.at = 1767323045,
			.expires = 60 };
		struct recipe r = { cJSON_CreateObject() };
		cJSON *rq;

		assert_int_equal(s->provider->recipe(s, &u, &r), 0);
		rq = cJSON_GetArrayItem(
		    cJSON_GetObjectItem(r.json, "requests"), 0);
		assert_int_equal(
		    cJSON_GetObjectItem(cJSON_GetObjectItem(rq, "headers"),
			"x-ms-blob-type") != NULL,
		    steps[i] == STEP_WHOLE);
		cJSON_Delete(r.json);
	}
	storage_free(s);
	bad(TYPED("AppendBlob"), "/headers/x-ms-blob-type");
}

/* What a version of the service takes is known before the first upload. */
static void
test_azure_version(void **state)
{
	struct storage *s = good(AZ("") ",\"sasVersion\":\"2015-04-05\"}");

	assert_int_equal(s->part_size, 4 << 20);
	storage_free(s);
	s = good(AZ("") ",\"sasVersion\":\"2018-11-09\"}");
	assert_int_equal(s->part_size, 64 << 20);
	storage_free(s);
	bad(AZ("") ",\"sasVersion\":\"2018-11-09\",\"partSize\":104857601}",
	    "/partSize");
	bad(AZ("") ",\"sasVersion\":\"2014-02-14\"}", "/sasVersion");
	bad(AZ("") ",\"sasVersion\":\"latest\"}", "/sasVersion");
	bad(CLIENT ",\"sasVersion\":\"2015-04-05\"}", "/sasVersion");
}

/* However many blocks the service takes, the list is one that agents take. */
static void
test_azure_list(void **state)
{
	struct storage *s = good(AZ("") "}");
	struct upload u = { .method = "PUT",
		.key = "k",
		.size = 50000 * (64LL << 20),
		.step = STEP_FINISH,
		.at = 1767323045,
		.expires = 60 };
	struct recipe r = { cJSON_CreateObject() };
	const cJSON *body;

	assert_int_equal(s->provider->recipe(s, &u, &r), 0);
	body = cJSON_GetObjectItem(
	    cJSON_GetArrayItem(cJSON_GetObjectItem(r.json, "requests"), 0),
	    "body");
	assert_in_range(strlen(json_string(body, "text")), 100000, 1 << 20);
	cJSON_Delete(r.json);
	storage_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_azure),
		cmocka_unit_test(test_azure_strings),
		cmocka_unit_test(test_azure_authority),
		cmocka_unit_test(test_azure_type),
		cmocka_unit_test(test_azure_version),
		cmocka_unit_test(test_azure_list),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
