/*
 * azure_connection.c - connection strings of Azure storage accounts
 */
#include "azure_connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "xalloc.h"

/* The emulator's account, which its maker publishes. */
#define DEV_ACCOUNT "devstoreaccount1"
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
	free(c->sas);
}

static void
take(char **field, const char *value)
{
	free(*field);
	*field = value[0] != '\0' ? xstrdup(value) : NULL;
}

/* "Name=value;Name=value"; a value may hold '='. Unknown names are let be. */
int
azure_connection_parse(const char *s, struct azure_connection *c)
{
	char *copy = xstrdup(s), *save = NULL;
	int rc = 0;

	for (char *part = strtok_r(copy, ";", &save); part != NULL;
	     part = strtok_r(NULL, ";", &save)) {
		char *eq = strchr(part, '=');

		if (eq == NULL) {
			rc = -EINVAL;
			break;
		}
		*eq++ = '\0';
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
	}
	explicit_bzero(copy, strlen(copy));
	free(copy);
	if (c->development) {
		take(&c->account, DEV_ACCOUNT);
		take(&c->key, DEV_KEY);
		take(&c->blob_endpoint, "http://127.0.0.1:10000/" DEV_ACCOUNT);
	}
	return rc;
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
