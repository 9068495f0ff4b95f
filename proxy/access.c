/*
 * access.c - passwords of cameras
 *
 * What must stay true: comparisons take the same time whatever differs;
 * passwords are never logged. A nonce is the time it was made and a keyed hash
 * of it, so none is stored; it is good for five minutes. Within these no answer
 * to it is taken twice: the last USED_MAX answers are kept, and nonces as old
 * as those that had to be forgotten are not good any more. (So a request
 * overheard cannot be sent again; on a plain LAN it can still be changed on
 * its way: Digest protects the password, not the transfer.)
 */
#include "access.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "gateway_conf.h"
#include "http_parser.h"
#include "http_server.h"
#include "log.h"
#include "url.h"
#include "xalloc.h"

#define REALM "edgehaul"
#define NONCE_MS (5 * 60 * 1000)
#define PARAM_MAX 512
#define PASSWORD_MAX 255
#define USED_MAX 4096 /* 13 a second over five minutes */

/* An answer that was taken. */
struct used {
	uint64_t tag;  /* of it */
	int64_t at_ms; /* when its nonce was made */
};

struct access {
	uint8_t secret[32];
	struct used *used; /* USED_MAX, the next one at used_n % USED_MAX */
	size_t used_n;
	int64_t forgotten_ms; /* nonces made until then are too old */
	char **passwords;     /* of conf's cameras, NULL: none or unreadable */
	size_t n;
	const struct camera_conf *cameras;
};

/* ---- password files -------------------------------------------------------
 */

/* Its first line; what is wrong with it, or NULL. */
static const char *
first_line(const char *path, char line[PASSWORD_MAX + 3])
{
	FILE *f = fopen(path, "re");
	const char *why = NULL;
	size_t n;

	if (f == NULL)
		return strerror(errno);
	errno = 0;
	if (fgets(line, PASSWORD_MAX + 3, f) == NULL) {
		line[0] = '\0';
		if (ferror(f))
			why = strerror(errno);
	}
	fclose(f);
	n = strcspn(line, "\r\n");
	line[n] = '\0';
	if (why == NULL && n == 0)
		why = "its first line is empty";
	else if (n > PASSWORD_MAX)
		why = "the password has over 255 octets";
	return why;
}

char *
access_read_password(const char *path, const char *camera)
{
	char line[PASSWORD_MAX + 3];
	const char *why = first_line(path, line);
	char *password = why == NULL ? xstrdup(line) : NULL;

	OPENSSL_cleanse(line, sizeof(line));
	if (why != NULL)
		log_error("[camera %s] password_file %s: %s: the camera is "
			  "refused until it is mended",
		    camera, path, why);
	return password;
}

struct access *
access_new(const struct gateway_conf *conf)
{
	struct access *a = xcalloc(1, sizeof(*a));

	if (RAND_bytes(a->secret, sizeof(a->secret)) != 1)
		abort();
	a->forgotten_ms = -1;
	a->n = conf->cameras_n;
	a->cameras = conf->cameras;
	a->passwords = xcalloc(a->n + 1, sizeof(*a->passwords));
	for (size_t i = 0; i < a->n; i++)
		if (a->cameras[i].password_file != NULL)
			a->passwords[i] = access_read_password(
			    a->cameras[i].password_file, a->cameras[i].name);
	return a;
}

void
access_free(struct access *a)
{
	if (a == NULL)
		return;
	for (size_t i = 0; i < a->n; i++)
		if (a->passwords[i] != NULL)
			OPENSSL_clear_free(
			    a->passwords[i], strlen(a->passwords[i]));
	free(a->used);
	free(a->passwords);
	free(a);
}

/* ---- nonces ---------------------------------------------------------------
 */

void
access_nonce(struct access *a, int64_t now_ms, char out[49])
{
	uint8_t mac[32];
	unsigned n = sizeof(mac);

	snprintf(out, 17, "%016" PRIx64, (uint64_t)now_ms);
	HMAC(EVP_sha256(), a->secret, sizeof(a->secret),
	    (const unsigned char *)out, 16, mac, &n);
	hex_encode(mac, 16, out + 16);
}

static bool
nonce_ours(struct access *a, const char *nonce, int64_t now_ms, int64_t *at_out,
    bool *old_out)
{
	char again[49];
	uint64_t at;

	if (strlen(nonce) != 48 || sscanf(nonce, "%16" SCNx64, &at) != 1)
		return false;
	access_nonce(a, (int64_t)at, again);
	*at_out = (int64_t)at;
	*old_out = now_ms - (int64_t)at > NONCE_MS || (int64_t)at > now_ms ||
	    (int64_t)at <= a->forgotten_ms;
	return CRYPTO_memcmp(nonce, again, 48) == 0;
}

/* An answer that fits, to a nonce of at_ms: was it here before? Else it was
 * now. */
static bool
used_before(struct access *a, const char *response, int64_t at_ms)
{
	size_t n = a->used_n < USED_MAX ? a->used_n : USED_MAX;
	struct used *u;
	uint64_t tag;
	uint8_t mac[32];
	unsigned len = sizeof(mac);

	HMAC(EVP_sha256(), a->secret, sizeof(a->secret),
	    (const unsigned char *)response, strlen(response), mac, &len);
	memcpy(&tag, mac, sizeof(tag));
	if (a->used == NULL)
		a->used = xcalloc(USED_MAX, sizeof(*a->used));
	for (size_t i = 0; i < n; i++)
		if (a->used[i].tag == tag)
			return true;
	u = &a->used[a->used_n++ % USED_MAX];
	if (n == USED_MAX && u->at_ms > a->forgotten_ms)
		a->forgotten_ms = u->at_ms;
	*u = (struct used){ tag, at_ms };
	return false;
}

/* ---- Digest ---------------------------------------------------------------
 */

/* name=value or name="value" of a comma-separated list; "" if absent. */
static void
param(const char *list, const char *name, char out[PARAM_MAX])
{
	size_t n = strlen(name), o = 0;
	const char *s = list;

	out[0] = '\0';
	while (*s != '\0') {
		bool quoted, mine;

		s += strspn(s, ", \t");
		mine = strncasecmp(s, name, n) == 0 &&
		    s[n + strspn(s + n, " \t")] == '=';
		s += strcspn(s, "=,");
		if (*s != '=')
			continue;
		s += 1 + strspn(s + 1, " \t");
		quoted = *s == '"';
		s += quoted;
		while (*s != '\0' && (quoted ? *s != '"' : *s != ',')) {
			if (quoted && *s == '\\' && s[1] != '\0')
				s++;
			if (mine && o + 1 < PARAM_MAX)
				out[o++] = *s;
			s++;
		}
		if (mine) {
			while (!quoted && o > 0 &&
			    isspace((unsigned char)out[o - 1]))
				o--;
			out[o] = '\0';
			return;
		}
		s += *s == '"';
	}
}

/* Lower-case hex of the hash of "a:b:c...". */
static void
hash_joined(const EVP_MD *md, char out[65], const char *const *parts, size_t n)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	uint8_t sum[32];
	unsigned len;

	EVP_DigestInit_ex(c, md, NULL);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			EVP_DigestUpdate(c, ":", 1);
		EVP_DigestUpdate(c, parts[i], strlen(parts[i]));
	}
	EVP_DigestFinal_ex(c, sum, &len);
	EVP_MD_CTX_free(c);
	hex_encode(sum, len, out);
}

/* Is the "uri" that was hashed this target? Who sent it in absolute-form may
 * have hashed it so. */
static bool
same_target(const char *uri, const char *target)
{
	const char *path;

	if (strcmp(uri, target) == 0)
		return true;
	if (strncasecmp(uri, "http://", 7) != 0 &&
	    strncasecmp(uri, "https://", 8) != 0)
		return false;
	path = strchr(strchr(uri, ':') + 3, '/');
	return path != NULL && strcmp(path, target) == 0;
}

/* Without telling by the time it takes where they differ, or in length. */
static bool
same_secret(const void *a, size_t a_n, const void *b, size_t b_n)
{
	uint8_t x[32], y[32];

	return EVP_Digest(a, a_n, x, NULL, EVP_sha256(), NULL) == 1 &&
	    EVP_Digest(b, b_n, y, NULL, EVP_sha256(), NULL) == 1 &&
	    CRYPTO_memcmp(x, y, sizeof(x)) == 0;
}

static bool
digest_fits(struct access *a, const char *user, const char *password,
    const char *method, const char *target, const char *list, int64_t now_ms,
    bool *stale_out)
{
	char name[PARAM_MAX], nonce[PARAM_MAX], uri[PARAM_MAX],
	    response[PARAM_MAX], algorithm[PARAM_MAX], qop[PARAM_MAX],
	    nc[PARAM_MAX], cnonce[PARAM_MAX], ha1[65], ha2[65], want[65];
	const EVP_MD *md;
	int64_t at_ms;
	bool fits;

	param(list, "username", name);
	param(list, "nonce", nonce);
	param(list, "uri", uri);
	param(list, "response", response);
	param(list, "algorithm", algorithm);
	param(list, "qop", qop);
	param(list, "nc", nc);
	param(list, "cnonce", cnonce);
	if (strcasecmp(algorithm, "SHA-256") == 0)
		md = EVP_sha256();
	else if (algorithm[0] == '\0' || strcasecmp(algorithm, "MD5") == 0)
		md = EVP_md5();
	else
		return false;
	if (strcmp(name, user) != 0 || !same_target(uri, target) ||
	    !nonce_ours(a, nonce, now_ms, &at_ms, stale_out))
		return false;
	hash_joined(md, ha1, (const char *[]){ user, REALM, password }, 3);
	hash_joined(md, ha2, (const char *[]){ method, uri }, 2);
	if (strcasecmp(qop, "auth") == 0)
		hash_joined(md, want,
		    (const char *[]){ ha1, nonce, nc, cnonce, qop, ha2 }, 6);
	else if (qop[0] == '\0') /* RFC 2069, of very old cameras */
		hash_joined(md, want, (const char *[]){ ha1, nonce, ha2 }, 3);
	else
		return false;
	for (char *s = response; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
	fits = same_secret(response, strlen(response), want, strlen(want));
	*stale_out = fits && (*stale_out || used_before(a, response, at_ms));
	return fits && !*stale_out;
}

static bool
basic_fits(const char *user, const char *password, const char *base64)
{
	char text[PARAM_MAX + 4], want[PARAM_MAX];
	unsigned char got[PARAM_MAX];
	size_t n = strlen(base64), pad = 0;
	bool fits;
	int len;

	snprintf(want, sizeof(want), "%s:%s", user, password);
	if (n == 0 || n > PARAM_MAX)
		return false;
	memcpy(text, base64, n + 1);
	if (text[n - 1] != '=') /* some leave the padding out */
		while (n % 4 != 0)
			text[n++] = '=';
	if (n % 4 != 0)
		return false;
	while (pad < 2 && text[n - 1 - pad] == '=')
		pad++;
	len = EVP_DecodeBlock(got, (const unsigned char *)text, (int)n);
	fits =
	    len >= 0 && same_secret(got, (size_t)len - pad, want, strlen(want));
	OPENSSL_cleanse(got, sizeof(got));
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(want, sizeof(want));
	return fits;
}

bool
access_fits(struct access *a, const char *user, const char *password,
    const char *method, const char *target, const char *authorization,
    int64_t now_ms, bool *stale_out)
{
	*stale_out = false;
	if (strncasecmp(authorization, "Basic ", 6) == 0)
		return basic_fits(user, password,
		    authorization + 6 + strspn(authorization + 6, " "));
	if (strncasecmp(authorization, "Digest ", 7) == 0)
		return digest_fits(a, user, password, method, target,
		    authorization + 7, now_ms, stale_out);
	return false;
}

bool
access_check(struct access *a, const struct camera_conf *cam,
    struct http_request *rq, int64_t now_ms)
{
	const char *given = http_request_header(rq, "Authorization");
	const char *password;
	char nonce[49], line[192];
	bool stale = false;

	if (cam == NULL || cam->user == NULL)
		return true;
	password = a->passwords[cam - a->cameras];
	if (password != NULL && given != NULL &&
	    access_fits(a, cam->user, password, http_request_method(rq),
		http_request_head(rq)->target, given, now_ms, &stale))
		return true;
	access_nonce(a, now_ms, nonce);
	snprintf(line, sizeof(line),
	    "Digest realm=\"" REALM "\", qop=\"auth\", algorithm=SHA-256, "
	    "nonce=\"%s\"%s",
	    nonce, stale ? ", stale=true" : "");
	http_reply_header(rq, "WWW-Authenticate", line);
	snprintf(line, sizeof(line),
	    "Digest realm=\"" REALM "\", qop=\"auth\", algorithm=MD5, "
	    "nonce=\"%s\"%s",
	    nonce, stale ? ", stale=true" : "");
	http_reply_header(rq, "WWW-Authenticate", line);
	http_reply_header(rq, "WWW-Authenticate", "Basic realm=\"" REALM "\"");
	return false;
}
