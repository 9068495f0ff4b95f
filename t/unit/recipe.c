/*
 * recipe.c - tests of agent/recipe.c, answer.c and origin.c
 */
#include "recipe.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "json.h"
#include "verify.h"

static struct recipe_rules rules;

#define OK_TAIL "\"ok\":[200,201]}],\"expiresIn\":120}"
#define URI "\"uri\":\"https://store.example/b/k?sig=1\""

static int
setup(void **state)
{
	rules = (struct recipe_rules){ .size = 1000 };
	return 0;
}

/* Parse text with ' for "; the recipe or NULL. */
static struct recipe *
parse(const char *text, int *rc_out)
{
	char *s = strdup(text), why[256] = "";
	struct recipe *r = NULL;
	cJSON *v;

	for (char *p = s; (p = strchr(p, '\'')) != NULL;)
		*p = '"';
	v = json_parse(s, strlen(s), 1 << 20, NULL);
	assert_non_null(v);
	*rc_out = recipe_parse(v, &rules, &r, why, sizeof(why));
	assert_true((*rc_out == 0) == (why[0] == '\0'));
	assert_null(strstr(why, "sig="));
	cJSON_Delete(v);
	free(s);
	return r;
}

static void
refused(const char *text)
{
	int rc;

	assert_null(parse(text, &rc));
	assert_int_equal(rc, -EINVAL);
}

static void
accepted(const char *text)
{
	int rc;

	recipe_free(parse(text, &rc));
	assert_int_equal(rc, 0);
}

static void
test_whole(void **state)
{
	int rc;
	struct recipe *r =
	    parse("{'method':'PUT','requests':[{'method':'PUT'," URI
		  ",'headers':{'X-Type':'Block','Content-Length':'1000',"
		  "'X-Empty':''},'body':{'file':true},'keep':{'etag':{'header':"
		  "'ETag'}}," OK_TAIL,
		&rc);

	assert_int_equal(rc, 0);
	assert_int_equal(r->requests_n, 1);
	assert_string_equal(r->requests[0].method, "PUT");
	assert_string_equal(
	    r->requests[0].uri, "https://store.example/b/k?sig=1");
	assert_int_equal(r->requests[0].headers_n, 2); /* length is ours */
	assert_int_equal(r->requests[0].body, BODY_FILE);
	assert_int_equal(r->requests[0].length, 1000);
	assert_string_equal(r->requests[0].keep[0].name, "etag");
	assert_true(recipe_request_ok(&r->requests[0], 201));
	assert_false(recipe_request_ok(&r->requests[0], 204));
	assert_int_equal(r->expires_in_ms, 120000);
	assert_null(r->certificate_id);
	assert_null(r->step);
	recipe_free(r);
}

static void
test_parts(void **state)
{
	int rc;
	struct recipe *r =
	    parse("{'requests':[{'method':'PUT'," URI
		  ",'body':{'range':{'offset':500,'length':500}}," OK_TAIL,
		&rc);

	assert_int_equal(rc, 0);
	assert_int_equal(r->requests[0].offset, 500);
	assert_int_equal(r->requests[0].length, 500);
	recipe_free(r);
	/* As long as Azure's may be, which is longer than the others'. */
	r = parse("{'requests':[],'step':'part','parts':{'count':7},"
		  "'expiresIn':31622400}",
	    &rc);
	assert_int_equal(rc, 0);
	assert_int_equal(r->expires_in_ms, 31622400000);
	assert_string_equal(r->step, "part");
	assert_int_equal(r->parts, 7);
	recipe_free(r);
	refused("{'requests':[],'expiresIn':9}");
	refused("{'requests':[],'step':'part','parts':{'count':0},"
		"'expiresIn':9}");
	refused("{'requests':[{'method':'PUT'," URI
		",'ok':[200]}],'parts':{'count':2},'expiresIn':9}");
	refused("{'requests':[{'method':'PUT'," URI
		",'body':{'range':{'offset':500,'length':501}}," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI
		",'body':{'range':{'offset':1001,'length':0}}," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI
		",'body':{'range':{'offset':-1,'length':1}}," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI
		",'body':{'range':{'offset':9e18,'length':9e18}}," OK_TAIL);
}

/* A recipe with this verify. */
#define VERIFY(v)                                                              \
	"{'requests':[{'method':'PUT'," URI                                    \
	",'body':{'file':true},'ok':[200]}],'expiresIn':9,'verify':" v "}"

static void
test_verify(void **state)
{
	int rc;
	struct recipe *r =
	    parse(VERIFY("{'size':false,'header':'ETag','digest':'md5-hex',"
			 "'or':{'header':'X-Sha','digest':'sha256-base64'}}"),
		&rc);

	assert_int_equal(rc, 0);
	assert_null(r->verify.size_header);
	assert_string_equal(r->verify.header, "ETag");
	assert_int_equal(r->verify.digest, DIGEST_MD5);
	assert_false(r->verify.base64);
	assert_string_equal(r->verify.sha256_header, "X-Sha");
	assert_true(r->verify.sha256_base64);
	recipe_free(r);
	accepted(VERIFY("{'or':{'header':'X-Sha','digest':'sha256-hex'}}"));
	accepted(VERIFY("{'size':true}"));
	accepted(VERIFY("null"));
	refused(VERIFY("[]"));
	refused(VERIFY("{'header':'ETag'}"));
	refused(VERIFY("{'digest':'md5-hex'}"));
	refused(VERIFY("{'header':'E Tag','digest':'md5-hex'}"));
	refused(VERIFY("{'header':'ETag','digest':'crc32'}"));
	refused(VERIFY("{'or':'X-Sha'}"));
	refused(VERIFY("{'or':{'header':'X-Sha'}}"));
	refused(VERIFY("{'or':{'header':'ETag','digest':'md5-hex'}}"));
}

static void
test_shapes(void **state)
{
	refused("{}");
	refused("{'requests':{}}");
	refused("{'requests':[1],'expiresIn':1}");
	refused(
	    "{'requests':[{'method':'PUT'," URI ",'ok':[200]}],'expiresIn':0}");
	refused("{'requests':[{'method':'PUT'," URI
		",'ok':[200]}],'expiresIn':31622401}");
	refused("{'requests':[{'method':'PUT'," URI ",'ok':[200]}]}");
	refused("{'requests':[{'method':'PUT'," URI ",'ok':[100]}],"
		"'expiresIn':1}");
	refused("{'requests':[{'method':'PUT'," URI ",'ok':[]}],"
		"'expiresIn':1}");
	refused("{'requests':[{'method':'PUT'," URI ",'body':{}," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI ",'body':7," OK_TAIL);
	refused("{'requests':[{'method':'GET'," URI
		",'body':{'file':true}," OK_TAIL);
	refused("{'requests':[{'method':'PATCH'," URI "," OK_TAIL);
	refused("{'requests':[{'method':'put'," URI "," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI ",'keep':{'a':{'header':"
		"'X','tag':'Y'}}," OK_TAIL);
	refused("{'requests':[{'method':'PUT'," URI ",'keep':{'a':{'text':"
		"'X','tag':'Y'}}," OK_TAIL);
	refused(
	    "{'requests':[{'method':'PUT'," URI ",'keep':{'a':{}}," OK_TAIL);
	accepted("{'requests':[{'method':'PUT'," URI
		 ",'keep':{'a':{'text':'7'},'b':{'tag':'B'}}," OK_TAIL);
	accepted("{'requests':[{'method':'DELETE'," URI "," OK_TAIL);
	accepted("{'requests':[{'method':'POST'," URI
		 ",'body':{'text':'<a/>'}," OK_TAIL);
}

static void
test_sixteen(void **state)
{
	for (int n = 16; n <= 17; n++) {
		cJSON *v = cJSON_CreateObject(), *list, *o;
		struct recipe *r = NULL;
		char why[256];

		list = cJSON_AddArrayToObject(v, "requests");
		cJSON_AddNumberToObject(v, "expiresIn", 5);
		for (int i = 0; i < n; i++) {
			o = cJSON_CreateObject();
			cJSON_AddStringToObject(o, "method", "HEAD");
			cJSON_AddStringToObject(o, "uri", "https://a.b/");
			cJSON_AddItemToArray(cJSON_AddArrayToObject(o, "ok"),
			    cJSON_CreateNumber(200));
			cJSON_AddItemToArray(list, o);
		}
		assert_int_equal(recipe_parse(v, &rules, &r, why, sizeof(why)),
		    n == 16 ? 0 : -EINVAL);
		recipe_free(r);
		cJSON_Delete(v);
	}
}

static void
header(const char *name, const char *value, bool good)
{
	cJSON *v = cJSON_CreateObject(), *o = cJSON_CreateObject(), *h;
	struct recipe *r = NULL;
	char why[256];

	cJSON_AddItemToArray(cJSON_AddArrayToObject(v, "requests"), o);
	cJSON_AddNumberToObject(v, "expiresIn", 5);
	cJSON_AddStringToObject(o, "method", "PUT");
	cJSON_AddStringToObject(o, "uri", "https://a.b/");
	cJSON_AddItemToArray(
	    cJSON_AddArrayToObject(o, "ok"), cJSON_CreateNumber(200));
	h = cJSON_AddObjectToObject(o, "headers");
	cJSON_AddStringToObject(h, name, value);
	assert_int_equal(
	    recipe_parse(v, &rules, &r, why, sizeof(why)), good ? 0 : -EINVAL);
	recipe_free(r);
	cJSON_Delete(v);
}

static void
test_headers(void **state)
{
	header("If-None-Match", "*", true);
	header("X-A", "\xc3\xa9 b", true);
	header("X-A", "a\r\nX-B: c", false);
	header("X-A", "a\nb", false);
	header("X-A", "a\x7f", false);
	header("X A", "b", false);
	header("X-A:", "b", false);
	header("", "b", false);
	header("X-A\r\nX-B", "c", false);
	header("Host", "other.example", false);
	header("hOST", "other.example", false);
	header("Transfer-Encoding", "chunked", false);
	header("Connection", "close", false);
	header("Expect", "100-continue", false);
	header("Proxy-Authorization", "x", false);
	header("Content-Length", "0", true);
	header("Content-Length", "7", false);
	header("Content-Length", "0, 0", false);
}

static int
uri(const char *u)
{
	cJSON *v = cJSON_CreateObject(), *o = cJSON_CreateObject();
	struct recipe *r = NULL;
	char why[256];
	int rc;

	cJSON_AddItemToArray(cJSON_AddArrayToObject(v, "requests"), o);
	cJSON_AddNumberToObject(v, "expiresIn", 5);
	cJSON_AddStringToObject(o, "method", "PUT");
	cJSON_AddStringToObject(o, "uri", u);
	cJSON_AddItemToArray(
	    cJSON_AddArrayToObject(o, "ok"), cJSON_CreateNumber(200));
	rc = recipe_parse(v, &rules, &r, why, sizeof(why));
	recipe_free(r);
	cJSON_Delete(v);
	return rc;
}

static void
test_uris(void **state)
{
	static const char *const bad[] = { "", "ftp://a.b/", "file:///etc/x",
		"https:/a.b/", "https:///a", "https://", "https://a.b:0/",
		"https://a.b:65536/", "https://a.b:/", "https://a.b:8x/",
		"https://user@a.b/", "https://a.b@c.d/", "https://a b/",
		"https://a.b/ c", "https://a.b/\r\nX: y", "https://a.b/#f",
		"https://a.b\\@c.d/", "https://a.b/\xc3\xa9", "https://a%2eb/",
		"https://[::1/", "https://[g::]/", "https://a.b,c.d/",
		"http://a.b/", "//a.b/", "/k", "https://127.0.0.1/",
		"https://10.1.2.3:8443/k", "https://[::1]/",
		"https://[::ffff:10.0.0.1]/", "https://2130706433/",
		"https://0x7f.1/", "https://0177.1/",
		"https://169.254.169.254/latest", "https://[fd00::1]/",
		"https://localhost/", "https://0/",
		"https://[64:ff9b::a00:1]/" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (uri(bad[i]) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(uri("https://a.b/k?x=y/../z&sig=%2B"), 0);
	assert_int_equal(uri("HTTPS://A.b:8443/k"), 0);
	assert_int_equal(uri("https://8.8.8.8/k"), 0);
	assert_int_equal(uri("https://[2a00::1]:8443/k"), 0);
}

static void
test_allowed(void **state)
{
	struct origin own;

	rules.allow_http = true;
	assert_int_equal(uri("http://a.b/k"), 0);
	assert_int_equal(uri("http://192.168.1.2/k"), -EINVAL);
	rules.allow_private = true;
	assert_int_equal(uri("http://192.168.1.2/k"), 0);
	rules.allow_http = rules.allow_private = false;
	assert_int_equal(origin_parse("http://127.0.0.1:9/x", &own), 0);
	rules.exempt = &own;
	rules.exempt_n = 1;
	assert_int_equal(uri("http://127.0.0.1:9/k"), 0);
	assert_int_equal(uri("http://127.0.0.1:10/k"), -EINVAL);
	assert_int_equal(uri("https://127.0.0.1:9/k"), -EINVAL);
}

static void
test_hosts(void **state)
{
	static const char *const hosts[] = { "store.example", "b.example:8443",
		"[2a00::1]:99" };
	struct origin own;

	rules.hosts = hosts;
	rules.hosts_n = 3;
	assert_int_equal(uri("https://store.example/k"), 0);
	assert_int_equal(uri("https://STORE.example:443/k"), 0);
	assert_int_equal(uri("https://b.example:8443/k"), 0);
	assert_int_equal(uri("https://[2a00::1]:99/k"), 0);
	assert_int_equal(uri("https://b.example/k"), -EXDEV);
	assert_int_equal(uri("https://store.example:444/k"), -EXDEV);
	assert_int_equal(uri("https://xstore.example/k"), -EXDEV);
	assert_int_equal(uri("https://store.example.evil/k"), -EXDEV);
	rules.hosts_n = 0; /* known to have none */
	assert_int_equal(uri("https://store.example/k"), -EXDEV);
	assert_int_equal(origin_parse("https://own.example", &own), 0);
	rules.exempt = &own;
	rules.exempt_n = 1;
	assert_int_equal(uri("https://own.example/k"), 0);
}

static void
test_addresses(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct sockaddr_in6 b = { .sin6_family = AF_INET6 };
	static const struct {
		const char *text;
		bool private;
	} rows[] = {
		{ "172.16.0.1", true },
		{ "172.32.0.1", false },
		{ "100.64.0.1", true },
		{ "100.128.0.1", false },
		{ "224.0.0.1", true },
		{ "255.255.255.255", true },
		{ "1.1.1.1", false },
		{ "192.0.2.1", false },
		{ "fe80::1", true },
		{ "ff02::1", true },
		{ "::", true },
		{ "2002:0a00:0001::", true },
		{ "2002:0808:0808::", false },
		{ "2001:db8::1", false },
		{ "2606:4700::1", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		bool got = false;

		if (inet_pton(AF_INET, rows[i].text, &a.sin_addr) == 1)
			got = address_is_private((struct sockaddr *)&a);
		else if (inet_pton(AF_INET6, rows[i].text, &b.sin6_addr) == 1)
			got = address_is_private((struct sockaddr *)&b);
		else
			fail();
		if (got != rows[i].private)
			fail_msg("%s", rows[i].text);
	}
	a.sin_family = AF_UNIX;
	assert_true(address_is_private((struct sockaddr *)&a));
}

static void
test_answers(void **state)
{
	static const char text[] =
	    "[{\"status\":403,\"code\":\"Late\",\"do\":\"sign\"},"
	    "{\"status\":403,\"do\":\"wait\"},"
	    "{\"status\":200,\"code\":\"Slow\",\"do\":\"retry\"},"
	    "{\"code\":\"Gone\",\"do\":\"start\"}]";
	static const char *const bad[] = { "{}", "[{\"status\":403}]",
		"[{\"status\":1,\"do\":\"wait\"}]", "[{\"do\":\"explode\"}]",
		"[7]" };
	cJSON *v = json_parse(text, strlen(text), 4096, NULL);
	struct recipe_answers a;
	enum recipe_do what;
	char why[96];

	assert_int_equal(recipe_answers_parse(v, &a, why, sizeof(why)), 0);
	cJSON_Delete(v);
	assert_int_equal(recipe_answers_find(&a, 403, "Late", false, &what), 0);
	assert_int_equal(what, DO_SIGN);
	assert_int_equal(recipe_answers_find(&a, 403, "", false, &what), 0);
	assert_int_equal(what, DO_WAIT);
	assert_int_equal(recipe_answers_find(&a, 418, "Gone", false, &what), 0);
	assert_int_equal(what, DO_START);
	assert_int_equal(
	    recipe_answers_find(&a, 418, "", false, &what), -ENOENT);
	assert_int_equal(
	    recipe_answers_find(&a, 403, "", true, &what), -ENOENT);
	assert_int_equal(recipe_answers_find(&a, 200, "Slow", true, &what), 0);
	recipe_answers_fini(&a);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		v = json_parse(bad[i], strlen(bad[i]), 4096, NULL);
		assert_int_equal(
		    recipe_answers_parse(v, &a, why, sizeof(why)), -EINVAL);
		cJSON_Delete(v);
	}
}

static void
text_is(const char *body, const char *tag, int rc, const char *want)
{
	char out[16], *s = strdup(body); /* an overrun is seen by ASan */

	assert_int_equal(answer_text(s, strlen(s), tag, out, sizeof(out)), rc);
	assert_string_equal(out, want);
	free(s);
}

static void
test_answer_text(void **state)
{
	char code[32];

	text_is("<?xml?><E><Code>No</Code></E>", "Code", 0, "No");
	text_is("<E><Code>&quot;a&amp;b&#34;</Code>", "Code", 0, "\"a&b\"");
	text_is("<E><Code></Code>", "Code", 0, "");
	text_is("<E><Codex>1</Codex>", "Code", -ENOENT, "");
	text_is("<E><Code>a<b/></Code>", "Code", -EINVAL, "");
	text_is("<E><Code>a", "Code", -EINVAL, "");
	text_is("<E><Code>a</Co", "Code", -EINVAL, "");
	text_is("<Code", "Code", -ENOENT, "");
	text_is("<", "Code", -ENOENT, "");
	text_is("", "Code", -ENOENT, "");
	text_is("<Code>a\nb</Code>", "Code", -EINVAL, "");
	text_is("<Code>0123456789abcdefg</Code>", "Code", -EINVAL, "");
	text_is("{\"code\":\"x\"}", "code", 0, "x");
	text_is("{\"error\":{\"code\":\"y\"}}", "code", 0, "y");
	text_is("{\"code\":\"0123456789abcdefg\"}", "code", -EINVAL, "");
	text_is("{\"code\":7}", "code", -ENOENT, "");
	text_is("{broken", "code", -ENOENT, "");
	answer_code("<E><Code>Z</Code></E>", 21, code, sizeof(code));
	assert_string_equal(code, "Z");
	answer_code("{\"code\":\"q\"}", 12, code, sizeof(code));
	assert_string_equal(code, "q");
	answer_code("text", 4, code, sizeof(code));
	assert_string_equal(code, "");
}

static void
test_digests(void **state)
{
	static const uint8_t d[4] = { 0xde, 0xad, 0xbe, 0xef };
	static const uint8_t w[4] = { 0x5b, 0xf0, 0, 0 };

	assert_true(verify_digest_fits("deadbeef", false, d, 4));
	assert_true(verify_digest_fits("\"DEADBEEF\"", false, d, 4));
	assert_true(verify_digest_fits(" W/\"deadbeef\"", false, d, 4));
	assert_true(verify_digest_fits("3q2+7w==", true, d, 4));
	assert_false(verify_digest_fits("deadbeee", false, d, 4));
	assert_false(verify_digest_fits("deadbeef-2", false, d, 4));
	assert_false(verify_digest_fits("deadbe", false, d, 4));
	assert_false(verify_digest_fits("", false, d, 4));
	assert_false(verify_digest_fits("3q2+7w=", true, d, 4));
	assert_false(verify_digest_fits("3q2+7x==", true, d, 4));
	/* not a weak tag, though it begins like one */
	assert_true(verify_digest_fits("W/AAAA==", true, w, 4));
	assert_true(verify_digest_fits("W/\"W/AAAA==\"", true, w, 4));
	assert_false(verify_digest_fits("AAAA==", true, w, 4));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_whole, setup),
		cmocka_unit_test_setup(test_parts, setup),
		cmocka_unit_test_setup(test_verify, setup),
		cmocka_unit_test_setup(test_shapes, setup),
		cmocka_unit_test_setup(test_sixteen, setup),
		cmocka_unit_test_setup(test_headers, setup),
		cmocka_unit_test_setup(test_uris, setup),
		cmocka_unit_test_setup(test_allowed, setup),
		cmocka_unit_test_setup(test_hosts, setup),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_answer_text),
		cmocka_unit_test(test_digests),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
