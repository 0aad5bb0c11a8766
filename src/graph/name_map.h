/** @file name_map.h  From names to indices while a graph or a file grows: open addressing, names
 *  borrowed. Zero-initialise. */
#ifndef PQ_GRAPH_NAME_MAP_H
#define PQ_GRAPH_NAME_MAP_H

#include "base/mem.h"

typedef struct pq_name_map {
    struct pq_name_slot {
        const char *name;
        uint32_t id;     /* the caller's; UINT32_MAX when new */
        uint32_t copies; /* names made from this one */
    } * slot;
    size_t room, n;
} pq_name_map;

void pq_name_map_clear(pq_name_map *m);
/** Adds a name, or finds it there already. Memory: *slot is valid until the next call. */
PQ_MUST_USE pq_status pq_name_map_add(pq_ctx *ctx, pq_name_map *m, struct pq_name_slot **slot,
                                      const char *name, bool *is_new);
/** NULL if absent. */
const struct pq_name_slot *pq_name_map_find(const pq_name_map *m, const char *name);
/** "base", or "base_2", "base_3", … whichever is free; now it is taken. Memory: the arena's. */
PQ_MUST_USE pq_status pq_name_map_unique(pq_ctx *ctx, pq_name_map *m, pq_arena *arena,
                                         const char **out, const char *base);

#endif
