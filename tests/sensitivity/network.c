/* Letters between threads, under one lock. */
#include "network.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct letter {
    struct letter *next;
    int from;
    char *text;
} letter;

typedef struct post {
    network *n;
    int rank;
    bool cut;
    letter *first, **last;
    bool lost[MOST_RANKS];
    pq_crew crew;
} post;

struct network {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    int size;
    post post[MOST_RANKS];
};

static bool send(void *user, int to, const char *text)
{
    const post *own = user;
    network *n = own->n;
    letter *x = calloc(1, sizeof *x);
    const size_t bytes = strlen(text) + 1;
    if (!x || !(x->text = malloc(bytes))) abort();
    memcpy(x->text, text, bytes);
    x->from = own->rank;
    pthread_mutex_lock(&n->lock);
    post *p = &n->post[to];
    const bool there = !p->cut;
    if (there) {
        *p->last = x;
        p->last = &x->next;
    } else {
        free(x->text);
        free(x);
    }
    pthread_cond_broadcast(&n->arrived);
    pthread_mutex_unlock(&n->lock);
    return there;
}

static int receive(void *user, char *text, size_t room, double seconds)
{
    post *p = user;
    network *n = p->n;
    struct timespec until;
    int from = -1;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&n->lock);
    while (!p->first && seconds > 0 && pthread_cond_timedwait(&n->arrived, &n->lock, &until) == 0) {
    }
    letter *x = p->first;
    if (x) {
        p->first = x->next;
        if (!p->first) p->last = &p->first;
        from = x->from;
        snprintf(text, room, "%s", x->text);
        free(x->text);
        free(x);
    }
    pthread_mutex_unlock(&n->lock);
    return from;
}

network *network_new(int size, double patience)
{
    network *n = calloc(1, sizeof *n);
    if (!n) abort();
    n->size = size;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->arrived, NULL);
    for (int i = 0; i < size; i++) {
        post *p = &n->post[i];
        p->n = n;
        p->rank = i;
        p->last = &p->first;
        p->crew = (pq_crew){i, size, patience, p, send, receive, p->lost};
    }
    return n;
}

void network_free(network *n)
{
    for (int i = 0; i < n->size; i++)
        while (n->post[i].first) {
            letter *x = n->post[i].first;
            n->post[i].first = x->next;
            free(x->text);
            free(x);
        }
    pthread_cond_destroy(&n->arrived);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

pq_crew *network_crew(network *n, int rank) { return &n->post[rank].crew; }

void network_cut(network *n, int rank)
{
    pthread_mutex_lock(&n->lock);
    n->post[rank].cut = true;
    pthread_mutex_unlock(&n->lock);
}

void network_wait(network *n, size_t lines)
{
    pthread_mutex_lock(&n->lock);
    for (;;) {
        size_t have = 0;
        for (const letter *x = n->post[0].first; x; x = x->next) have++;
        if (have >= lines) break;
        pthread_cond_wait(&n->arrived, &n->lock);
    }
    pthread_mutex_unlock(&n->lock);
}
