/*
 * provider.c - the providers there are: a new one is a file and a row
 */
#include "provider.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "json.h"

static const struct provider *const providers[] = {
	&provider_azure,
	&provider_file,
	&provider_gcs,
	&provider_s3,
};
#define PROVIDERS (sizeof(providers) / sizeof(providers[0]))

const struct provider *
provider_find(const char *type)
{
	for (size_t i = 0; i < PROVIDERS; i++)
		if (strcasecmp(type, providers[i]->type) == 0)
			return providers[i];
	return NULL;
}

void
provider_types(struct text *out)
{
	for (size_t i = 0; i < PROVIDERS; i++) {
		text_str(out, i == 0 ? "" : ", ");
		text_str(out, providers[i]->type);
	}
}

int
provider_check_key(const char *key)
{
	size_t n = strlen(key);

	if (n == 0 || n > 1024 || !json_utf8(key, n))
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)key[i] < 0x20 || key[i] == 0x7f)
			return -EINVAL;
	return 0;
}
