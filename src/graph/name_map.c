/* A growing hash table of names. */
#include "graph/name_map.h"

#include <string.h>

#include "base/ctx.h"

static size_t hash_name(const char *name)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(h ^ h >> 29);
}

static struct pq_name_slot *find_slot(const pq_name_map *m, const char *name)
{
    size_t i = hash_name(name) & (m->room - 1);
    while (m->slot[i].name && strcmp(m->slot[i].name, name) != 0) i = (i + 1) & (m->room - 1);
    return &m->slot[i];
}

void pq_name_map_clear(pq_name_map *m)
{
    pq_free(m->slot);
    memset(m, 0, sizeof *m);
}

const struct pq_name_slot *pq_name_map_find(const pq_name_map *m, const char *name)
{
    const struct pq_name_slot *s = m->room ? find_slot(m, name) : NULL;
    return s && s->name ? s : NULL;
}

pq_status pq_name_map_add(pq_ctx *ctx, pq_name_map *m, struct pq_name_slot **slot, const char *name,
                          bool *is_new)
{
    if (2 * (m->n + 1) > m->room) {
        pq_name_map big = {NULL, m->room ? 2 * m->room : 256, m->n};
        pq_status st = pq_alloc(ctx, &big.slot, big.room, sizeof *big.slot);
        if (st != PQ_OK) return st;
        for (size_t i = 0; i < m->room; i++)
            if (m->slot[i].name) *find_slot(&big, m->slot[i].name) = m->slot[i];
        pq_free(m->slot);
        *m = big;
    }
    *slot = find_slot(m, name);
    *is_new = !(*slot)->name;
    if (*is_new) {
        **slot = (struct pq_name_slot){name, UINT32_MAX, 0};
        m->n++;
    }
    return PQ_OK;
}

pq_status pq_name_map_unique(pq_ctx *ctx, pq_name_map *m, pq_arena *arena, const char **out,
                             const char *base)
{
    struct pq_name_slot *slot;
    bool is_new = false;
    uint32_t copies = 0;
    pq_status st = pq_arena_strdup(ctx, arena, out, base);
    if (st == PQ_OK) st = pq_name_map_add(ctx, m, &slot, *out, &is_new);
    if (st != PQ_OK || is_new) return st;
    const char *const first = slot->name;
    for (copies = slot->copies; st == PQ_OK && !is_new; copies++) {
        st = pq_arena_printf(ctx, arena, out, "%s_%u", base, (unsigned)copies + 2);
        if (st == PQ_OK) st = pq_name_map_add(ctx, m, &slot, *out, &is_new);
    }
    find_slot(m, first)->copies =
        copies; /* so that a thousand equal names are not a million steps */
    return st;
}
