/*
 * azure_connection.h - connection strings of Azure storage accounts
 *
 * "Name=value;Name=value", as the portal shows them ("Configure Azure Storage
 * connection strings").
 */
#ifndef AZURE_CONNECTION_H
#define AZURE_CONNECTION_H

#include <stdbool.h>

/* NULL: not there. */
struct azure_connection {
	char *protocol, *account, *key, *suffix, *blob_endpoint, *sas;
	char *proxy; /* where the emulator is, if not here */
	bool development;
};

/* c is zeroed; azure_connection_fini() it, whatever this returns. -EINVAL. */
int azure_connection_parse(const char *s, struct azure_connection *c);
void azure_connection_fini(struct azure_connection *c);
/* The blob service's address, malloc'd. */
char *azure_connection_endpoint(const struct azure_connection *c);

#endif
