/*
 * azure_account.c - the storage account that a storage of type AZURE is in
 */
#include "azure_account.h"

#include <stdlib.h>
#include <string.h>

#include "azure_connection.h"
#include "digest.h"
#include "problem.h"
#include "provider.h"
#include "xalloc.h"

/* An application's credentials, for user delegation keys. */
static bool
has_client(const struct storage *s)
{
	return s->text[ST_TENANT_ID] != NULL && s->text[ST_CLIENT_ID] != NULL &&
	    s->text[ST_CLIENT_SECRET] != NULL;
}

/* "https://ACCOUNT.blob..." or, of an emulator, "https://host/ACCOUNT". */
static void
account_of_endpoint(struct azure_account *x)
{
	const char *path = x->endpoint.path;

	if (x->account != NULL)
		return;
	if (path[0] != '\0')
		x->account = xstrndup(path + 1, strcspn(path + 1, "/"));
	else
		x->account =
		    xstrndup(x->endpoint.host, strcspn(x->endpoint.host, "."));
}

/* Kept with its scheme: the secret goes there, and never in clear by mistake.
 */
static void
check_authority(struct storage *s, struct problem *p)
{
	char **authority = &s->text[ST_AUTHORITY];
	struct endpoint e = { 0 };

	if (*authority == NULL)
		return;
	if (endpoint_parse(*authority, &e) != 0 ||
	    (strcmp(e.scheme, "https") != 0 && !s->allow_http)) {
		problem_field(p, "/authority",
		    "Leave it out, or write https://HOST.",
		    "This is no address of a token service.");
	} else {
		free(*authority);
		*authority = endpoint_uri(&e);
	}
	endpoint_fini(&e);
}

static void
check_client(struct storage *s, struct azure_account *x, struct problem *p)
{
	if (s->text[ST_ENDPOINT] == NULL ||
	    endpoint_parse(s->text[ST_ENDPOINT], &x->endpoint) != 0) {
		problem_field(p, "/endpoint",
		    "Write https://ACCOUNT.blob.core.windows.net.",
		    "With clientId the address of the account is needed.");
		return;
	}
	if (strcmp(x->endpoint.scheme, "https") != 0)
		problem_field(p, "/endpoint", "Use https.",
		    "User delegation keys are given out by https only.");
	check_authority(s, p);
	if (strpbrk(s->text[ST_TENANT_ID], "/?#% ") != NULL)
		problem_field(p, "/tenantId",
		    "The directory (tenant) ID in the portal.",
		    "This is no id of a tenant.");
	account_of_endpoint(x);
}

/* Nothing that would lead to another host when it stands in one. */
static bool
account_ok(const char *s)
{
	return strlen(s) <= 64 &&
	    s[strspn(s,
		"abcdefghijklmnopqrstuvwxyz0123456789-_"
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static void
check_credentials(
    struct azure_connection *c, struct azure_account *x, struct problem *p)
{
	uint8_t *raw;
	size_t n;

	if (c->key == NULL && c->sas != NULL) {
		problem_field(p, "/connectionString",
		    "Take the one of Security, Access keys, which has "
		    "AccountKey=..., or use tenantId, clientId and "
		    "clientSecret of an application.",
		    "A SharedAccessSignature cannot sign for single uploads.");
		return;
	}
	if (c->account == NULL || c->key == NULL) {
		problem_field(p, "/connectionString",
		    "Copy it from the portal: storage account, Security, "
		    "Access keys. It has AccountName=...;AccountKey=...",
		    "The connection string lacks %s.",
		    c->account == NULL ? "AccountName" : "AccountKey");
		return;
	}
	if (!account_ok(c->account)) {
		problem_field(p, "/connectionString",
		    "AccountName is the name alone, such as mystore01.",
		    "The AccountName is no name of an account.");
		return;
	}
	if (base64_decode(c->key, &raw, &n) != 0) {
		problem_field(p, "/connectionString",
		    "Copy the connection string again, in full.",
		    "The AccountKey is not base64.");
		return;
	}
	hmac_key_init(&x->hmac, raw, n);
	explicit_bzero(raw, n);
	free(raw);
	x->account = xstrdup(c->account);
	x->key = xstrdup(c->key);
}

/* The path, an emulator's account, may be left out of the endpoint. */
static void
warn_differences(
    struct storage *s, struct azure_account *x, const struct endpoint *other)
{
	struct endpoint *e = &x->endpoint;
	bool same_host = strcmp(e->host, other->host) == 0;
	char *host;

	if (same_host && e->path[0] == '\0') {
		free(e->path);
		e->path = xstrdup(other->path);
	}
	if (same_host && e->port == other->port &&
	    strcmp(e->path, other->path) == 0)
		return;
	host = endpoint_authority(e, NULL);
	storage_warn(s,
	    "endpoint and connectionString name different "
	    "%s; %s%s is used",
	    same_host && e->port == other->port ? "paths"
		: same_host                     ? "ports"
						: "hosts",
	    host, e->path);
	free(host);
}

/*
 * The endpoint given goes before that of the connection string; https if
 * either says https, http only where it is allowed.
 */
static void
check_endpoint(struct storage *s, const struct azure_connection *c,
    struct azure_account *x, struct problem *p)
{
	const char *given = s->text[ST_ENDPOINT];
	char *from = azure_connection_endpoint(c);
	struct endpoint other = { 0 };

	if (endpoint_parse(from, &other) != 0) {
		problem_field(p, "/connectionString",
		    "BlobEndpoint is https://ACCOUNT.blob.core.windows.net "
		    "or an address of your own.",
		    "Its blob endpoint is no address of a service.");
		goto out;
	}
	if (endpoint_parse(given != NULL ? given : from, &x->endpoint) != 0) {
		problem_field(p, "/endpoint",
		    "Write https://ACCOUNT.blob.core.windows.net, or leave "
		    "it out: the connection string tells it.",
		    "This is no address of a service.");
		goto out;
	}
	warn_differences(s, x, &other);
	if (strcmp(x->endpoint.scheme, other.scheme) != 0) {
		storage_warn(s,
		    "endpoint and connectionString differ in "
		    "http and https; https is used");
		free(x->endpoint.scheme);
		x->endpoint.scheme = xstrdup("https");
	}
	provider_check_http(s, &x->endpoint,
	    given != NULL ? "/endpoint" : "/connectionString", p);
out:
	endpoint_fini(&other);
	free(from);
}

void
azure_account_check(
    struct azure_account *x, struct storage *s, struct problem *p)
{
	struct azure_connection c = { 0 };

	if (s->text[ST_CONNECTION_STRING] == NULL && !has_client(s)) {
		problem_field(p, "/connectionString",
		    "Set connectionString (storage account, Security, Access "
		    "keys in the portal), or tenantId, clientId, clientSecret "
		    "and endpoint of an application.",
		    "There are no credentials to sign with.");
		return;
	}
	if (s->text[ST_CONNECTION_STRING] == NULL)
		check_client(s, x, p);
	else if (azure_connection_parse(s->text[ST_CONNECTION_STRING], &c) != 0)
		problem_field(p, "/connectionString",
		    "It reads AccountName=...;AccountKey=...;"
		    "EndpointSuffix=core.windows.net",
		    "This is no connection string.");
	else
		check_credentials(&c, x, p);
	if (x->key != NULL)
		check_endpoint(s, &c, x, p);
	if (x->endpoint.host != NULL) {
		x->host = endpoint_authority(&x->endpoint, NULL);
		x->base = endpoint_uri(&x->endpoint);
	}
	azure_connection_fini(&c);
}

void
azure_account_fini(struct azure_account *x)
{
	endpoint_fini(&x->endpoint);
	free(x->account);
	if (x->key != NULL)
		explicit_bzero(x->key, strlen(x->key));
	free(x->key);
	explicit_bzero(&x->hmac, sizeof(x->hmac));
	free(x->host);
	free(x->base);
}
