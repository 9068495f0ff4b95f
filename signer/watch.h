/*
 * watch.h - looks at all storages once a day and says what somebody has to do
 */
#ifndef WATCH_H
#define WATCH_H

struct signer;
struct watch;

/* Looks at once, then every day. */
struct watch *watch_new(struct signer *sg);
/* After the pools are gone. */
void watch_free(struct watch *w);

#endif
