/*
 * ca_bundle.h - certificates of authorities, as a storage has them in PEM
 */
#ifndef CA_BUNDLE_H
#define CA_BUNDLE_H

#include <stdint.h>

/*
 * How many there are; -1: one of them is damaged. *ends_out: when the first of
 * them ends, in Unix seconds (0: it cannot be told), if there is any.
 */
int ca_bundle_count(const char *pem, int64_t *ends_out);
/* When the first certificate of a file ends; 0: it cannot be told. */
int64_t ca_bundle_file_ends(const char *path);

#endif
