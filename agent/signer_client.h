/*
 * signer_client.h - talk with the signer
 *
 * Several addresses may be given: the next is asked when one fails. The token
 * is read again on SIGHUP and when it is refused. What goes wrong is logged
 * when it begins, when it changes and when it ends, not at each try.
 */
#ifndef SIGNER_CLIENT_H
#define SIGNER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cjson/cJSON.h>

#include "circuit.h"
#include "origin.h"

#define SIGNER_URLS_MAX 8
/* A completing body of RECIPE_TEXT_MAX among others, or all that is blocked. */
#define SIGNER_ANSWER_MAX (4 * 1024 * 1024)

struct event_base;
struct signer;
struct signer_call;

struct signer_settings {
	const char *urls; /* blank separated */
	const char *token_file, *ca_file, *proxy;
};

struct signer_answer {
	int rc;            /* 0: the signer answered; else -errno */
	int status;        /* of the answer */
	const cJSON *json; /* of an answer in JSON, else NULL */
	const char *text;  /* as received */
	size_t text_n;
	const char *error; /* rc != 0 or status >= 400: for people */
	int64_t asked_ms;  /* clock_ms() when the request was made */
};
typedef void (*signer_fn)(const struct signer_answer *a, void *arg);

/* The circuit closed, or the token or address changed: ask again. */
struct signer *signer_new(struct event_base *base,
    const struct signer_settings *set, void (*on_back)(void *arg), void *arg);
void signer_free(struct signer *s);
/* New settings (SIGHUP); also reads the token again. */
void signer_settings(struct signer *s, const struct signer_settings *set);

/*
 * Ask. path from "/v1/"; text: JSON of a POST, NULL for a GET. judge: the
 * outcome tells whether the signer works (signing), and opens or closes the
 * circuit. fn is called once, never from within.
 */
struct signer_call *signer_call(struct signer *s, const char *path,
    const char *text, int64_t timeout_ms, bool judge, signer_fn fn, void *arg);
/* fn is not called. NULL is accepted. */
void signer_cancel(struct signer_call *c);

/* May a judged call be made now, or when (as circuit_wait_ms())? */
bool signer_may(const struct signer *s);
int64_t signer_wait_ms(const struct signer *s);
/* Another call was answered: look at once whether signing works too. */
void signer_alive(struct signer *s);
/* Scheme, host and port of each address. */
const struct origin *signer_origins(const struct signer *s, size_t *n_out);
/* "" while all is well. */
const char *signer_error(const struct signer *s);
/* {"ok", "url", "last_error", "last_ok_s"} for status. */
cJSON *signer_status(const struct signer *s);
/* The signer's wall clock minus ours in ms, as of its last answer; 0 if not
 * known. */
int64_t signer_clock_offset_ms(const struct signer *s);

#endif
