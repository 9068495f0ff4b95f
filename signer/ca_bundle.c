/*
 * ca_bundle.c - certificates of authorities, as a storage has them in PEM
 */
#include "ca_bundle.h"

#include <time.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* Unix seconds; 0 if it cannot be told. */
static int64_t
ends_at(const X509 *x)
{
	struct tm tm;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm) != 1)
		return 0;
	return timegm(&tm);
}

/* Takes b. */
static int
count(BIO *b, int64_t *ends_out)
{
	X509 *x;
	int n = 0;

	while ((x = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL) {
		int64_t ends = ends_at(x);

		if (n++ == 0 || ends < *ends_out)
			*ends_out = ends;
		X509_free(x);
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		n = -1; /* one of them is damaged */
	ERR_clear_error();
	BIO_free(b);
	return n;
}

int
ca_bundle_count(const char *pem, int64_t *ends_out)
{
	return count(BIO_new_mem_buf(pem, -1), ends_out);
}

int64_t
ca_bundle_file_ends(const char *path)
{
	BIO *b = BIO_new_file(path, "r");
	int64_t ends = 0;

	if (b == NULL) {
		ERR_clear_error();
		return 0;
	}
	return count(b, &ends) > 0 ? ends : 0;
}
