/*
 * dialect.h - what update clients tell of themselves in headers of their own
 *
 * For /firmware/check: who sends such headers need not be taught our query. Of
 * what both say the query counts. Texts live as long as the request.
 */
#ifndef DIALECT_H
#define DIALECT_H

#include <stdbool.h>
#include <stdint.h>

struct http_request;
struct manifest;

enum dialect_kind {
	DIALECT_PLAIN,
	DIALECT_ESP, /* ESP8266httpUpdate, HTTPUpdate of the ESP32 */
	DIALECT_RAUC /* RAUC's polling */
};
struct dialect {
	enum dialect_kind kind;
	const char *id, *hw, *version, *component; /* NULL: not said */
	bool has_md5;                              /* of what it runs */
	uint8_t md5[16];
	uint64_t free; /* octets that it can take; UINT64_MAX: not said */
};

void dialect_read(struct http_request *rq, struct dialect *d_out);
/* The version that it runs, by its hash if it does not say; NULL. */
const char *dialect_version(const struct dialect *d, const struct manifest *m);

#endif
