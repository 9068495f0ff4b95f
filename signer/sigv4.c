/*
 * sigv4.c - AWS Signature Version 4 and its twin of Google Cloud Storage
 *
 * The canonical request is made in one text, the sorted query standing in it
 * and in the URI alike. What must stay true: names and values are encoded once,
 * with upper-case digits, '/' too in a query but not in a path; sorting is by
 * the encoded name, then the encoded value; header values are trimmed and
 * their inner runs of blanks made one, in the signed text only.
 */
#include "sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>

#include "clock.h"
#include "json.h"
#include "url.h"
#include "xalloc.h"

/* The words in which the two dialects differ. */
struct dialect {
	const char *algorithm, *prefix;
};
static const struct dialect aws = { "AWS4-HMAC-SHA256", "X-Amz-" };
static const struct dialect google = { "GOOG4-RSA-SHA256", "X-Goog-" };

void
sigv4_key_init(struct sigv4_key *k, const char *access_key, const char *secret,
    const char *token, const char *region, const char *service, int64_t at)
{
	const char *steps[] = { NULL, region, service, "aws4_request" };
	char *first = xasprintf("AWS4%s", secret);
	uint8_t md[DIGEST_LEN];
	char date[17];

	clock_basic(at, date);
	date[8] = '\0';
	steps[0] = date;
	hmac_key_init(&k->hmac, first, strlen(first));
	OPENSSL_cleanse(first, strlen(first));
	free(first);
	for (size_t i = 0; i < 4; i++) {
		hmac_sha256(&k->hmac, steps[i], strlen(steps[i]), md);
		hmac_key_init(&k->hmac, md, sizeof(md));
	}
	OPENSSL_cleanse(md, sizeof(md));
	k->access_key = xstrdup(access_key);
	k->token = token != NULL && token[0] != '\0' ? xstrdup(token) : NULL;
	k->scope = xasprintf("%s/%s/%s/aws4_request", date, region, service);
	k->day = at / 86400;
}

void
sigv4_key_fini(struct sigv4_key *k)
{
	free(k->access_key);
	free(k->token);
	free(k->scope);
	OPENSSL_cleanse(k, sizeof(*k));
}

int
pair_check_header(const struct pair *p)
{
	static const char token[] = "!#$%&'*+-.^_`|~";

	if (p->name[0] == '\0' || !json_utf8(p->value, strlen(p->value)))
		return -EINVAL;
	for (const char *c = p->name; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && strchr(token, *c) == NULL)
			return -EINVAL;
	for (const char *c = p->value; *c != '\0'; c++)
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return -EINVAL;
	return 0;
}

static int
check(const struct sigv4_request *r)
{
	if (r->headers_n > SIGV4_PAIRS_MAX || r->query_n > SIGV4_PAIRS_MAX ||
	    r->at < 0)
		return -EINVAL;
	for (size_t i = 0; i < r->headers_n; i++) {
		if (pair_check_header(&r->headers[i]) != 0 ||
		    strcasecmp(r->headers[i].name, "host") == 0)
			return -EINVAL;
		for (size_t j = 0; j < i; j++)
			if (strcasecmp(
				r->headers[i].name, r->headers[j].name) == 0)
				return -EINVAL;
	}
	for (size_t i = 0; i < r->query_n; i++)
		if (r->query[i].name[0] == '\0' ||
		    !json_utf8(r->query[i].name, strlen(r->query[i].name)) ||
		    !json_utf8(r->query[i].value, strlen(r->query[i].value)))
			return -EINVAL;
	return 0;
}

/* ---- the query ----------------------------------------------------------- */

struct span {
	size_t name, name_n, value, value_n; /* in an arena */
};
struct query {
	struct text arena;
	struct span spans[SIGV4_PAIRS_MAX + 8];
	size_t n;
};

static void
query_add(struct query *q, const char *name, const char *value, size_t value_n)
{
	struct span *s = &q->spans[q->n++];

	s->name = q->arena.n;
	text_encode(&q->arena, name, strlen(name), false);
	s->name_n = q->arena.n - s->name;
	s->value = q->arena.n;
	text_encode(&q->arena, value, value_n, false);
	s->value_n = q->arena.n - s->value;
}

static int
order(const char *a, size_t an, const char *b, size_t bn)
{
	int d = memcmp(a, b, an < bn ? an : bn);

	return d != 0 ? d : (an > bn) - (an < bn);
}

static int
span_order(const struct query *q, const struct span *a, const struct span *b)
{
	const char *s = q->arena.s;
	int d = order(s + a->name, a->name_n, s + b->name, b->name_n);

	return d != 0
	    ? d
	    : order(s + a->value, a->value_n, s + b->value, b->value_n);
}

/* Few and mostly in order: insertion. */
static void
query_sort(struct query *q)
{
	for (size_t i = 1; i < q->n; i++) {
		struct span x = q->spans[i];
		size_t j = i;

		for (; j > 0 && span_order(q, &x, &q->spans[j - 1]) < 0; j--)
			q->spans[j] = q->spans[j - 1];
		q->spans[j] = x;
	}
}

static void
query_write(const struct query *q, struct text *out)
{
	for (size_t i = 0; i < q->n; i++) {
		const struct span *s = &q->spans[i];

		if (i != 0)
			text_char(out, '&');
		text_add(out, q->arena.s + s->name, s->name_n);
		text_char(out, '=');
		text_add(out, q->arena.s + s->value, s->value_n);
	}
}

/* ---- the headers --------------------------------------------------------- */

struct header {
	char name[128]; /* lower case */
	const char *value;
};

static int
headers_sorted(const struct sigv4_request *r, const struct pair *more,
    size_t more_n, struct header *out)
{
	size_t n = 0;

	for (size_t i = 0; i < r->headers_n + more_n + 1; i++) {
		struct pair p = i < r->headers_n ? r->headers[i]
		    : i < r->headers_n + more_n
		    ? more[i - r->headers_n]
		    : (struct pair){ "host", r->host };
		struct header h = { .value = p.value };
		size_t j = n++;

		if (strlen(p.name) >= sizeof(h.name))
			return -EINVAL;
		for (size_t c = 0; p.name[c] != '\0'; c++)
			h.name[c] = (char)tolower((unsigned char)p.name[c]);
		for (; j > 0 && strcmp(h.name, out[j - 1].name) < 0; j--)
			out[j] = out[j - 1];
		out[j] = h;
	}
	return (int)n;
}

static void
add_collapsed(struct text *t, const char *s)
{
	size_t n = strlen(s);

	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	while (n > 0 && (*s == ' ' || *s == '\t'))
		s++, n--;
	for (size_t i = 0; i < n; i++) {
		if (s[i] != ' ' && s[i] != '\t')
			text_char(t, s[i]);
		else if (s[i - 1] != ' ' && s[i - 1] != '\t')
			text_char(t, ' ');
	}
}

static void
signed_names(const struct header *h, size_t n, struct text *out)
{
	for (size_t i = 0; i < n; i++) {
		if (i != 0)
			text_char(out, ';');
		text_str(out, h[i].name);
	}
}

/* ---- the two texts ------------------------------------------------------- */

static void
canonical_request(const struct sigv4_request *r, const struct query *q,
    const struct header *h, size_t n, const char *names, const char *payload,
    struct text *out)
{
	text_str(out, r->method);
	text_char(out, '\n');
	text_str(out, r->path);
	text_char(out, '\n');
	query_write(q, out);
	text_char(out, '\n');
	for (size_t i = 0; i < n; i++) {
		text_str(out, h[i].name);
		text_char(out, ':');
		add_collapsed(out, h[i].value);
		text_char(out, '\n');
	}
	text_char(out, '\n');
	text_str(out, names);
	text_char(out, '\n');
	text_str(out, payload);
}

static void
string_to_sign(const char *algorithm, const char *date, const char *scope,
    const struct text *canonical, struct text *out)
{
	char hash[65];

	digest_sha256_hex(canonical->s, canonical->n, hash);
	text_str(out, algorithm);
	text_char(out, '\n');
	text_str(out, date);
	text_char(out, '\n');
	text_str(out, scope);
	text_char(out, '\n');
	text_str(out, hash);
}

/* All that both dialects do before they sign. */
struct draft {
	struct query q;
	struct text canonical, to_sign;
};

static void
query_named(struct draft *d, const struct dialect *dl, const char *name,
    const char *value)
{
	char full[40];

	strcpy(full, dl->prefix);
	strcat(full, name);
	query_add(&d->q, full, value, strlen(value));
}

static int
draft_make(struct draft *d, const struct dialect *dl,
    const struct sigv4_request *r, const char *who, const char *scope,
    const char *token)
{
	struct header h[SIGV4_PAIRS_MAX + 1];
	const char *payload = "UNSIGNED-PAYLOAD";
	struct text t = { 0 };
	char date[17], expires[24];
	int n, rc = check(r);

	if (rc != 0)
		return rc;
	if (r->expires < 1 || r->expires > SIGV4_EXPIRES_MAX)
		return -ERANGE;
	n = headers_sorted(r, NULL, 0, h);
	if (n < 0)
		return n;
	clock_basic(r->at, date);
	query_named(d, dl, "Algorithm", dl->algorithm);
	text_str(&t, who);
	text_char(&t, '/');
	text_str(&t, scope);
	query_named(d, dl, "Credential", t.s);
	query_named(d, dl, "Date", date);
	text_reset(&t);
	text_u64(&t, (uint64_t)r->expires);
	strcpy(expires, t.s);
	query_named(d, dl, "Expires", expires);
	if (token != NULL)
		query_named(d, dl, "Security-Token", token);
	text_reset(&t);
	signed_names(h, (size_t)n, &t);
	query_named(d, dl, "SignedHeaders", t.s);
	for (size_t i = 0; i < r->query_n; i++)
		query_add(&d->q, r->query[i].name, r->query[i].value,
		    strlen(r->query[i].value));
	query_sort(&d->q);
	for (int i = 0; dl == &google && i < n; i++)
		if (strcmp(h[i].name, "x-goog-content-sha256") == 0)
			payload = h[i].value;
	canonical_request(r, &d->q, h, (size_t)n, t.s, payload, &d->canonical);
	string_to_sign(dl->algorithm, date, scope, &d->canonical, &d->to_sign);
	text_fini(&t);
	return 0;
}

static void
draft_fini(struct draft *d)
{
	text_fini(&d->q.arena);
	text_fini(&d->canonical);
	text_fini(&d->to_sign);
}

static void
uri_write(const struct draft *d, const struct dialect *dl,
    const struct sigv4_request *r, const char *signature, struct text *uri)
{
	text_str(uri, r->scheme);
	text_str(uri, "://");
	text_str(uri, r->host);
	text_str(uri, r->path);
	text_char(uri, '?');
	query_write(&d->q, uri);
	text_char(uri, '&');
	text_str(uri, dl->prefix);
	text_str(uri, "Signature=");
	text_str(uri, signature);
}

int
sigv4_presign(const struct sigv4_key *k, const struct sigv4_request *r,
    struct text *uri, char **why_out)
{
	struct draft d;
	uint8_t md[DIGEST_LEN];
	char hex[2 * DIGEST_LEN + 1];
	int rc;

	memset(&d.q.arena, 0, sizeof(d.q.arena));
	memset(&d.canonical, 0, sizeof(d.canonical));
	memset(&d.to_sign, 0, sizeof(d.to_sign));
	d.q.n = 0;
	rc = r->at / 86400 == k->day ? 0 : -EINVAL;
	if (rc == 0)
		rc = draft_make(&d, &aws, r, k->access_key, k->scope, k->token);
	if (rc == 0) {
		hmac_sha256(&k->hmac, d.to_sign.s, d.to_sign.n, md);
		hex_encode(md, sizeof(md), hex);
		uri_write(&d, &aws, r, hex, uri);
		if (why_out != NULL)
			*why_out =
			    xasprintf("%s\n--\n%s", d.canonical.s, d.to_sign.s);
	}
	draft_fini(&d);
	return rc;
}

int
gcs_v4_presign(const char *email, const char *region, gcs_v4_sign sign,
    void *arg, const struct sigv4_request *r, struct text *uri)
{
	struct draft *d = xcalloc(1, sizeof(*d));
	struct text signature = { 0 };
	char date[17], *scope;
	int rc;

	clock_basic(r->at, date);
	scope = xasprintf("%.8s/%s/storage/goog4_request", date, region);
	rc = draft_make(d, &google, r, email, scope, NULL);
	if (rc == 0)
		rc = sign(d->to_sign.s, d->to_sign.n, &signature, arg);
	if (rc == 0)
		uri_write(d, &google, r, signature.s, uri);
	text_fini(&signature);
	free(scope);
	draft_fini(d);
	free(d);
	return rc;
}

int
sigv4_authorize(const struct sigv4_key *k, const struct sigv4_request *r,
    char *out[4], size_t *n_out)
{
	struct header h[SIGV4_PAIRS_MAX + 4];
	struct draft *d;
	struct text names = { 0 };
	char date[17], payload[65], hex[65];
	uint8_t md[DIGEST_LEN];
	struct pair more[3] = {
		{ "x-amz-content-sha256", payload },
		{ "x-amz-date", date },
		{ "x-amz-security-token", k->token },
	};
	size_t more_n = k->token != NULL ? 3 : 2;
	int n, rc = check(r);

	if (rc == 0 && r->at / 86400 != k->day)
		rc = -EINVAL;
	if (rc != 0)
		return rc;
	clock_basic(r->at, date);
	digest_sha256_hex(r->body != NULL ? r->body : "", r->body_n, payload);
	n = headers_sorted(r, more, more_n, h);
	if (n < 0)
		return n;
	d = xcalloc(1, sizeof(*d));
	for (size_t i = 0; i < r->query_n; i++)
		query_add(&d->q, r->query[i].name, r->query[i].value,
		    strlen(r->query[i].value));
	query_sort(&d->q);
	signed_names(h, (size_t)n, &names);
	canonical_request(
	    r, &d->q, h, (size_t)n, names.s, payload, &d->canonical);
	string_to_sign(
	    aws.algorithm, date, k->scope, &d->canonical, &d->to_sign);
	hmac_sha256(&k->hmac, d->to_sign.s, d->to_sign.n, md);
	hex_encode(md, sizeof(md), hex);
	for (size_t i = 0; i < more_n; i++)
		out[i] = xasprintf("%s: %s", more[i].name, more[i].value);
	out[more_n] = xasprintf("Authorization: %s Credential=%s/%s, "
				"SignedHeaders=%s, Signature=%s",
	    aws.algorithm, k->access_key, k->scope, names.s, hex);
	*n_out = more_n + 1;
	text_fini(&names);
	draft_fini(d);
	free(d);
	return 0;
}
