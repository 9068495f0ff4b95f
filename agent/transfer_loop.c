/*
 * transfer_loop.c - libcurl on the event loop: sockets, time, handles
 *
 * libcurl says what to watch, libevent says when (multi_socket). on_socket and
 * the timer call curl_multi_socket_action(), then reap(), which alone ends
 * transfers.
 */
#include "transfer_private.h"

#include <errno.h>
#include <stdlib.h>
#include <event2/event.h>

#include "xalloc.h"

/* ---- handles ------------------------------------------------------------- */

CURL *
xfers_handle(struct xfers *x)
{
	CURL *e = x->spare_n > 0 ? x->spare[--x->spare_n] : curl_easy_init();

	if (e == NULL)
		abort(); /* out of memory, as in xalloc.c */
	x->live++;
	return e;
}

void
xfers_handle_back(struct xfers *x, CURL *e)
{
	curl_multi_remove_handle(x->multi, e);
	if (--x->live > 0 && x->spare_n < SPARE) {
		curl_easy_reset(e);
		x->spare[x->spare_n++] = e;
		return;
	}
	curl_easy_cleanup(e);
	while (x->live == 0 && x->spare_n > 0)
		curl_easy_cleanup(x->spare[--x->spare_n]);
}

/* ---- sockets and time ---------------------------------------------------- */

static void
reap(struct xfers *x)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(x->multi, &left)) != NULL) {
		CURLcode code = m->data.result;
		struct xfer *t;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
		xfer_end(t, code);
	}
}

static void
on_socket(evutil_socket_t fd, short what, void *arg)
{
	struct xfers *x = arg;
	int running,
	    mask = (what & EV_READ ? CURL_CSELECT_IN : 0) |
	    (what & EV_WRITE ? CURL_CSELECT_OUT : 0);

	curl_multi_socket_action(x->multi, fd, mask, &running);
	reap(x);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct xfers *x = arg;
	int running;

	curl_multi_socket_action(x->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	reap(x);
}

/* CURLMOPT_SOCKETFUNCTION: one persistent event per socket, owned here. */
static int
want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *priv)
{
	struct xfers *x = arg;
	struct event *ev = NULL;
	short mask = (short)(EV_PERSIST | (what & CURL_POLL_IN ? EV_READ : 0) |
	    (what & CURL_POLL_OUT ? EV_WRITE : 0));

	if (priv != NULL)
		event_free(priv);
	if (what != CURL_POLL_REMOVE)
		ev = event_new(x->base, fd, mask, on_socket, x);
	curl_multi_assign(x->multi, fd, ev);
	if (what == CURL_POLL_REMOVE)
		return 0;
	return ev != NULL ? event_add(ev, NULL) : -1;
}

/* CURLMOPT_TIMERFUNCTION */
static int
want_timer(CURLM *multi, long ms, void *arg)
{
	struct xfers *x = arg;
	struct timeval tv = { ms / 1000, (ms % 1000) * 1000 };

	return ms < 0 ? event_del(x->timer) : event_add(x->timer, &tv);
}

int
xfers_global_init(const char **why)
{
	const curl_version_info_data *v;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		*why = "libcurl cannot be initialised";
		return -ENOMEM;
	}
	v = curl_version_info(CURLVERSION_NOW);
	if ((v->features & CURL_VERSION_ASYNCHDNS) == 0 ||
	    (v->features & CURL_VERSION_SSL) == 0) {
		*why = "libcurl lacks TLS or asynchronous DNS";
		return -ENOTSUP;
	}
	return 0;
}

void
xfers_global_fini(void)
{
	curl_global_cleanup();
}

struct xfers *
xfers_new(struct event_base *base, unsigned keep)
{
	struct xfers *x = xcalloc(1, sizeof(*x));

	x->base = base;
	x->timer = evtimer_new(base, on_timer, x);
	x->multi = curl_multi_init();
	if (x->multi == NULL || x->timer == NULL)
		abort(); /* out of memory, as in xalloc.c */
	curl_multi_setopt(x->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(x->multi, CURLMOPT_SOCKETDATA, x);
	curl_multi_setopt(x->multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(x->multi, CURLMOPT_TIMERDATA, x);
	curl_multi_setopt(x->multi, CURLMOPT_MAXCONNECTS, (long)keep);
	curl_multi_setopt(x->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return x;
}

void
xfers_free(struct xfers *x)
{
	if (x == NULL)
		return;
	curl_multi_cleanup(x->multi);
	event_free(x->timer);
	free(x);
}
