/*
 * form.c - tests of proxy/form.c: each body whole and cut at each position
 */
#include "../../proxy/form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "xalloc.h"

/* Parts as text: "[name|filename|type]data;" */
struct seen {
	char s[4000];
	size_t n;
};

static void
on_begin(const struct form_part *p, void *arg)
{
	struct seen *s = arg;

	s->n += (size_t)sprintf(
	    s->s + s->n, "[%s|%s|%s]", p->name, p->filename, p->type);
}

static void
on_data(const char *p, size_t n, void *arg)
{
	struct seen *s = arg;

	memcpy(s->s + s->n, p, n);
	s->n += n;
	s->s[s->n] = '\0';
}

static void
on_end(void *arg)
{
	struct seen *s = arg;

	s->n += (size_t)sprintf(s->s + s->n, ";");
}

static const struct form_events events = { on_begin, on_data, on_end };

/* The parts, or "STATUS" or "incomplete". Cut in two at `cut`. */
static void
parse(
    const char *type, const char *body, size_t n, size_t cut, struct seen *out)
{
	const char *why = NULL;
	struct form *f;
	int rc;

	memset(out, 0, sizeof(*out));
	f = form_new(type, &events, out, &why);
	if (f == NULL) {
		strcpy(out->s, "refused");
		return;
	}
	rc = form_feed(f, body, cut, &why);
	if (rc == 0)
		rc = form_feed(f, body + cut, n - cut, &why);
	if (rc != 0) {
		assert_non_null(why);
		sprintf(out->s, "%d", rc);
	} else if (!form_complete(f)) {
		strcpy(out->s, "incomplete");
	}
	form_free(f);
}

static void
expect(const char *type, const char *body, size_t n, const char *want)
{
	struct seen s;
	const char *why;
	struct form *f;

	for (size_t cut = 0; cut <= n; cut++) {
		parse(type, body, n, cut, &s);
		assert_string_equal(s.s, want);
	}
	memset(&s, 0, sizeof(s)); /* octet by octet */
	f = form_new(type, &events, &s, &why);
	for (size_t i = 0; f != NULL && i < n; i++)
		if (form_feed(f, body + i, 1, &why) != 0)
			break;
	if (want[0] == '[')
		assert_string_equal(s.s, want);
	form_free(f);
}

#define B "multipart/form-data; boundary=b0"
#define EXPECT(type, body, want) expect(type, body, sizeof(body) - 1, want)

static void
test_plain(void **state)
{
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; name=\"f\"; "
	    "filename=\"a b.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n"
	    "da\r\nta\r\n--b0--\r\n",
	    "[f|a b.jpg|image/jpeg]da\r\nta;");
	EXPECT("multipart/form-data; boundary=\"b 0\"",
	    "preamble\r\n--b 0\r\nContent-Disposition: form-data; name=f"
	    "\r\n\r\nx\r\n--b 0  \r\n\r\ny\r\n--b 0--epilogue",
	    "[f||]x;[||]y;");
	EXPECT(B, "--b0\r\n\r\n\r\n--b0--", "[||];");
}

static void
test_looks_like_a_delimiter(void **state)
{
	EXPECT(B, "--b0\r\n\r\na\r\n--b\r\n-\r\n--b0x\r\n\r\n--b0--",
	    "[||]a\r\n--b\r\n-\r\n--b0x\r\n;");
	EXPECT(B, "--b0\r\n\r\n\r\n\r\n\n\r\n--b0--", "[||]\r\n\r\n\n;");
	EXPECT(B, "--b0\r\n\r\na--b0--\r\n--b0-x\r\n--b0--",
	    "[||]a--b0--\r\n--b0-x;");
	/* every octet of it is data, those that might be padding too */
	EXPECT(B, "--b0\r\n\r\na\r\n--b0 \t x\r\n--b0\ry\r\n--b0--",
	    "[||]a\r\n--b0 \t x\r\n--b0\ry;");
	EXPECT(B,
	    "--b0\r\n\r\na\r\n--b0                                        "
	    "                              \r\n--b0--",
	    "[||]a\r\n--b0                                        "
	    "                              ;");
	EXPECT(B, "--b0 \t \r\n\r\na\r\n--b0\t--\t\r\n", "[||]a;");
}

/* What stands behind the headers' empty line may be a delimiter at once (RFC
 * 2046 section 5.1.1: body-part). */
static void
test_empty_parts(void **state)
{
	EXPECT(B, "--b0\r\nContent-Type: a/b\r\n\r\n--b0--\r\n", "[||a/b];");
	EXPECT(B, "--b0\n\n--b0\n\n--b0x\n--b0--", "[||];[||]--b0x;");
	EXPECT(B, "--b0\n\ra: b\n\r\n\rx\n\r--b0--", "[||]x;");
}

static void
test_parameters(void **state)
{
	/* what looks like a parameter inside a quoted one is none */
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; name=\"a; "
	    "filename=no\"; filename=\"b;c.jpg\"\r\n\r\nx\r\n--b0--",
	    "[a; filename=no|b;c.jpg|]x;");
	EXPECT("multipart/form-data; x=\"; boundary=no\" ; y; boundary = b0",
	    "--b0\r\n\r\nx\r\n--b0--", "[||]x;");
	EXPECT("multipart/form-data; boundary=\"b;0\"",
	    "--b;0\r\n\r\nx\r\n--b;0--", "[||]x;");
	/* RFC 8187; what cannot be decoded stays as it is */
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; name=a; filename*="
	    "UTF-8'en'caf%C3%A9%20.jpg\r\n\r\nx\r\n--b0--",
	    "[a|caf\xc3\xa9 .jpg|]x;");
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; filename=plain; "
	    "filename*=utf-8''%zz\r\n\r\nx\r\n--b0--",
	    "[|plain|]x;");
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; "
	    "filename*=a%00b\r\n\r\nx\r\n--b0--",
	    "[|a%00b|]x;");
	/* a header on several lines (RFC 2046 keeps RFC 822's folding) */
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data;\r\n name=a;\r\n\t"
	    "filename=\"b\"\r\nContent-Type:\r\n image/png\r\n\r\n"
	    "x\r\n--b0\r\n folded\r\n\r\ny\r\n--b0--",
	    "[a|b|image/png]x;[||]y;");
}

static void
test_cameras(void **state)
{
	/* delimiter line twice */
	EXPECT(B, "--b0\r\n--b0\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--b0--",
	    "[||image/jpeg]x;");
	/* empty boundary parameter */
	EXPECT("multipart/form-data; boundary=",
	    "--bx\r\nContent-Type: image/jpeg\r\n\r\nx\r\n--bx--\r\n",
	    "[||image/jpeg]x;");
	EXPECT("multipart/form-data",
	    "\r\n--bx\r\n\r\nx\r\n--bx\r\n\r\ny\r\n--bx--\r\n", "[||]x;[||]y;");
	/* LF, and LF CR, as line ends */
	EXPECT(B, "--b0\nContent-Type: a/b\n\nx\n--b0--\n", "[||a/b]x;");
	EXPECT(
	    B, "--b0\n\rContent-Type: a/b\n\r\n\rx\n\r--b0--\n\r", "[||a/b]x;");
	/* junk among the headers, odd blanks */
	EXPECT(B,
	    "--b0\r\njunk\r\ncontent-type :  a/b \r\n"
	    "Content-Disposition:form-data;name=\"C:\\x\\y.jpg\";"
	    "filename=p.jpg\r\n\r\nx\r\n--b0--",
	    "[C:\\x\\y.jpg|p.jpg|a/b]x;");
	/* told twice: the first counts, a name or not */
	EXPECT(B,
	    "--b0\r\nContent-Disposition: form-data; filename=a\r\n"
	    "Content-Disposition: form-data; name=n; filename=b\r\n\r\n"
	    "x\r\n--b0--",
	    "[|a|]x;");
}

static void
test_refused(void **state)
{
	char *big = xmalloc(10000), *many;
	struct seen s;
	size_t n = 0;

	EXPECT(B, "--b0\r\n\r\nno end", "incomplete");
	EXPECT(B, "--b0\r\n\r\nno end\r\n--b0", "incomplete");
	EXPECT(B, "", "incomplete");
	EXPECT("multipart/form-data", "hello\n", "-400");
	EXPECT("multipart/form-data; boundary="
	       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	    "x", "refused");
	EXPECT(B, "--b0\r\na\0b\r\n\r\nx\r\n--b0--", "-400");
	memset(big, 'x', 10000);
	memcpy(big, "--b0\r\n", 6);
	parse(B, big, 10000, 5000, &s);
	assert_string_equal(s.s, "-400");
	free(big);
	many = xmalloc(10000 * 10);
	for (int i = 0; i < 10000; i++)
		n += (size_t)sprintf(many + n, "--b0\r\n\r\n");
	for (size_t i = 0; i < 300; i++)
		memcpy(many + i * 10, "--b0\r\n\r\n\r\n", 10);
	parse(B, many, 3000, 1, &s);
	assert_string_equal(s.s, "-413");
	free(many);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_looks_like_a_delimiter),
		cmocka_unit_test(test_empty_parts),
		cmocka_unit_test(test_parameters),
		cmocka_unit_test(test_cameras),
		cmocka_unit_test(test_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
