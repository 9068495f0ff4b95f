/*
 * azure_connection.c - connection strings of Azure storage accounts
 */
#include "azure_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "endpoint.h"
#include "xalloc.h"

#define BLANKS " \t\r\n"

/* The emulator's account, which its maker publishes. */
#define DEV_ACCOUNT "devstoreaccount1"
#define DEV_PORT 10000
#define DEV_KEY                                                                \
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/"      \
	"K1SZFPTOtr/KBHBeksoGMGw=="

void
azure_connection_fini(struct azure_connection *c)
{
	free(c->protocol);
	free(c->account);
	free(c->key);
	free(c->suffix);
	free(c->blob_endpoint);
	free(c->proxy);
	free(c->sas);
}

static void
take(char **field, const char *value)
{
	free(*field);
	*field = value[0] != '\0' ? xstrdup(value) : NULL;
}

/* Without the blanks and line ends around it, which come with copying. */
static char *
trim(char *s)
{
	size_t n;

	s += strspn(s, BLANKS);
	for (n = strlen(s); n > 0 && strchr(BLANKS, s[n - 1]) != NULL;)
		s[--n] = '\0';
	return s;
}

/* The emulator, at its own address or at the host that stands for it. */
static int
take_development(struct azure_connection *c)
{
	struct endpoint e = { 0 };
	int rc = endpoint_parse(
	    c->proxy != NULL ? c->proxy : "http://127.0.0.1", &e);

	if (rc != 0)
		return rc;
	take(&c->account, DEV_ACCOUNT);
	take(&c->key, DEV_KEY);
	free(c->blob_endpoint);
	c->blob_endpoint =
	    xasprintf("%s://%s:%d/" DEV_ACCOUNT, e.scheme, e.host, DEV_PORT);
	endpoint_fini(&e);
	return 0;
}

/* "Name=value;Name=value"; a value may hold '='. Unknown names are let be. */
int
azure_connection_parse(const char *s, struct azure_connection *c)
{
	char *copy = xstrdup(s), *save = NULL, *end = copy + strlen(copy);
	int rc = 0;

	for (char *part = strtok_r(copy, ";", &save); part != NULL;
	     part = strtok_r(NULL, ";", &save)) {
		char *eq = strchr(part, '=');

		if (*trim(part) == '\0')
			continue;
		if (eq == NULL) {
			rc = -EINVAL;
			break;
		}
		*eq++ = '\0';
		part = trim(part);
		eq = trim(eq);
		if (strcasecmp(part, "DefaultEndpointsProtocol") == 0)
			take(&c->protocol, eq);
		else if (strcasecmp(part, "AccountName") == 0)
			take(&c->account, eq);
		else if (strcasecmp(part, "AccountKey") == 0)
			take(&c->key, eq);
		else if (strcasecmp(part, "EndpointSuffix") == 0)
			take(&c->suffix, eq);
		else if (strcasecmp(part, "BlobEndpoint") == 0)
			take(&c->blob_endpoint, eq);
		else if (strcasecmp(part, "SharedAccessSignature") == 0)
			take(&c->sas, eq);
		else if (strcasecmp(part, "UseDevelopmentStorage") == 0)
			c->development = strcasecmp(eq, "true") == 0;
		else if (strcasecmp(part, "DevelopmentStorageProxyUri") == 0)
			take(&c->proxy, eq);
	}
	explicit_bzero(copy, (size_t)(end - copy));
	free(copy);
	return rc == 0 && c->development ? take_development(c) : rc;
}

char *
azure_connection_endpoint(const struct azure_connection *c)
{
	if (c->blob_endpoint != NULL)
		return xstrdup(c->blob_endpoint);
	return xasprintf("%s://%s.blob.%s",
	    c->protocol != NULL ? c->protocol : "https", c->account,
	    c->suffix != NULL ? c->suffix : "core.windows.net");
}
