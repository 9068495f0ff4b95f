/*
 * access.c - tests of proxy/access.c
 */
#include "../../proxy/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <openssl/evp.h>

#include "gateway_conf.h"
#include "url.h"

static void
hash(const EVP_MD *md, char out[65], const char *text)
{
	unsigned char sum[32];
	unsigned n;

	EVP_Digest(text, strlen(text), sum, &n, md, NULL);
	hex_encode(sum, n, out);
}

/* What a camera would send. */
static void
digest(char *out, size_t size, const EVP_MD *md, const char *algorithm,
    const char *password, const char *nonce, const char *uri, bool qop)
{
	char ha1[65], ha2[65], response[65], text[512];

	snprintf(text, sizeof(text), "cam:edgehaul:%s", password);
	hash(md, ha1, text);
	snprintf(text, sizeof(text), "PUT:%s", uri);
	hash(md, ha2, text);
	if (qop)
		snprintf(text, sizeof(text), "%s:%s:00000001:abc:auth:%s", ha1,
		    nonce, ha2);
	else
		snprintf(text, sizeof(text), "%s:%s:%s", ha1, nonce, ha2);
	hash(md, response, text);
	snprintf(out, size,
	    "Digest username=\"cam\", realm=\"edgehaul\", nonce=\"%s\", "
	    "uri=\"%s\", response=\"%s\"%s%s",
	    nonce, uri, response, algorithm,
	    qop ? ", qop=auth, nc=00000001, cnonce=\"abc\"" : "");
}

static bool
fits(struct access *a, const char *header, int64_t now, bool *stale)
{
	return access_fits(a, "cam", "pa:ss, \"word", "PUT", "/upload/x y",
	    header, now, stale);
}

static void
test_basic(void **state)
{
	struct gateway_conf conf = { 0 };
	struct access *a = access_new(&conf);
	bool stale;

	/* cam:pa:ss, "word */
	assert_true(fits(a, "Basic Y2FtOnBhOnNzLCAid29yZA==", 0, &stale));
	assert_true(fits(a, "basic  Y2FtOnBhOnNzLCAid29yZA==", 0, &stale));
	assert_false(fits(a, "Basic Y2FtOnBhOnNzLCAid29yZQ==", 0, &stale));
	assert_true(fits(a, "Basic Y2FtOnBhOnNzLCAid29yZA", 0, &stale));
	assert_false(fits(a, "Basic Y2FtOnBhOnNzLCAid29yZA=", 0, &stale));
	assert_false(fits(a, "Basic Y2FtOnBhOnNzLCAid29yZABBBB", 0, &stale));
	assert_false(fits(a, "Basic Y2FtOnBhOnNz", 0, &stale));
	assert_false(fits(a, "Basic ", 0, &stale));
	assert_false(fits(a, "Basic =", 0, &stale));
	assert_false(fits(a, "Basic ==", 0, &stale));
	assert_false(fits(a, "Basic ====", 0, &stale));
	assert_false(fits(a, "Basic !", 0, &stale));
	assert_false(fits(a, "Bearer x", 0, &stale));
	access_free(a);
}

static void
test_digest(void **state)
{
	struct gateway_conf conf = { 0 };
	struct access *a = access_new(&conf), *b = access_new(&conf);
	const char *password = "pa:ss, \"word", *uri = "/upload/x y";
	char nonce[49], foreign[49], header[1024];
	bool stale;

	access_nonce(a, 1000, nonce);
	access_nonce(b, 1000, foreign);
	digest(header, sizeof(header), EVP_sha256(), ", algorithm=SHA-256",
	    password, nonce, uri, true);
	assert_true(fits(a, header, 2000, &stale));
	assert_false(fits(a, header, 1000 + 301000, &stale));
	assert_true(stale);
	digest(header, sizeof(header), EVP_md5(), ", algorithm=MD5", password,
	    nonce, uri, true);
	assert_true(fits(a, header, 2000, &stale));
	digest(
	    header, sizeof(header), EVP_md5(), "", password, nonce, uri, false);
	assert_true(fits(a, header, 2000, &stale)); /* RFC 2069 */
	digest(
	    header, sizeof(header), EVP_md5(), "", "wrong", nonce, uri, true);
	assert_false(fits(a, header, 2000, &stale));
	assert_false(stale);
	digest(header, sizeof(header), EVP_md5(), "", password, foreign, uri,
	    true);
	assert_false(fits(a, header, 2000, &stale));
	digest(header, sizeof(header), EVP_md5(), "", password, nonce, "/other",
	    true);
	assert_false(fits(a, header, 2000, &stale));
	assert_false(fits(a, "Digest ", 2000, &stale));
	assert_false(fits(a, "Digest username=\"cam", 2000, &stale));
	access_free(a);
	access_free(b);
}

/* Spelt otherwise than most do. */
static void
test_spellings(void **state)
{
	struct gateway_conf conf = { 0 };
	struct access *a = access_new(&conf);
	const char *password = "pa:ss, \"word";
	char nonce[49], header[1024], *s;
	bool stale;

	access_nonce(a, 1000, nonce);
	digest(header, sizeof(header), EVP_md5(), "", password, nonce,
	    "http://gateway:8080/upload/x y", true);
	assert_true(fits(a, header, 2000, &stale)); /* absolute-form */
	digest(header, sizeof(header), EVP_md5(), "", password, nonce,
	    "http://gateway/upload/z", true);
	assert_false(fits(a, header, 2000, &stale));
	digest(header, sizeof(header), EVP_sha256(), ", algorithm=\"sha-256\"",
	    password, nonce, "/upload/x y", true);
	s = strstr(header, "response=\"") + 10;
	for (; *s != '"'; s++)
		if (*s >= 'a' && *s <= 'f')
			*s = (char)(*s - 'a' + 'A');
	assert_true(fits(a, header, 2000, &stale));
	access_free(a);
}

static char *
password_of(const char *text)
{
	char path[] = "/tmp/eh-access-XXXXXX", *password;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	password = access_read_password(path, "cam");
	unlink(path);
	return password;
}

static void
test_password_files(void **state)
{
	char text[300], *p;

	p = password_of("s3 cret\r\nnext\n");
	assert_string_equal(p, "s3 cret");
	free(p);
	memset(text, 'x', sizeof(text));
	text[255] = '\0';
	p = password_of(text);
	assert_string_equal(p, text);
	free(p);
	text[255] = 'x'; /* never cut: it would be another one */
	text[256] = '\0';
	assert_null(password_of(text));
	assert_null(password_of(""));
	assert_null(password_of("\n"));
	assert_null(password_of("\r\nsecret\n"));
	assert_null(access_read_password("/nonexistent/x", "cam"));
	assert_null(access_read_password("/tmp", "cam"));
}

/* The same answer is taken once; others to the same nonce are taken. */
static void
test_replay(void **state)
{
	struct gateway_conf conf = { 0 };
	struct access *a = access_new(&conf);
	const char *password = "pa:ss, \"word";
	char nonce[49], first[1024], header[1024], uri[40];
	bool stale;

	access_nonce(a, 1000, nonce);
	digest(first, sizeof(first), EVP_md5(), "", password, nonce,
	    "/upload/x y", true);
	assert_true(fits(a, first, 2000, &stale));
	assert_false(fits(a, first, 2000, &stale));
	assert_true(stale);
	digest(header, sizeof(header), EVP_md5(), "", password, nonce,
	    "/upload/x y", false); /* RFC 2069, the same nonce */
	assert_true(fits(a, header, 2000, &stale));
	assert_false(fits(a, header, 2000, &stale));
	/* So many others that the first is forgotten: its nonce is, too. */
	for (int i = 0; i < 5000; i++) {
		access_nonce(a, 3000 + i, nonce);
		snprintf(uri, sizeof(uri), "/upload/%d", i);
		digest(header, sizeof(header), EVP_sha256(),
		    ", algorithm=SHA-256", password, nonce, uri, true);
		assert_true(access_fits(
		    a, "cam", password, "PUT", uri, header, 9000, &stale));
	}
	assert_false(fits(a, first, 9000, &stale));
	assert_true(stale);
	assert_false(
	    access_fits(a, "cam", password, "PUT", uri, header, 9000, &stale));
	access_free(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_password_files),
		cmocka_unit_test(test_replay),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
