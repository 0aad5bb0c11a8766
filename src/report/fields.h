/** @file fields.h  Members of a JSON object that may or may not be there. */
#ifndef PQ_REPORT_FIELDS_H
#define PQ_REPORT_FIELDS_H

#include <math.h>

#include "base/json.h"

static inline const cJSON *pq_field(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}
/** NaN where there is no number. */
static inline double pq_field_number(const cJSON *o, const char *key)
{
    const cJSON *v = pq_field(o, key);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}
/** NULL where there is no string. Borrowed. */
static inline const char *pq_field_text(const cJSON *o, const char *key)
{
    return cJSON_GetStringValue(pq_field(o, key));
}
static inline bool pq_field_true(const cJSON *o, const char *key)
{
    return cJSON_IsTrue(pq_field(o, key));
}
/** An array with something in it, else NULL. */
static inline const cJSON *pq_field_list(const cJSON *o, const char *key)
{
    const cJSON *v = pq_field(o, key);
    return cJSON_IsArray(v) && v->child ? v : NULL;
}
/** The element of a list whose member has that text, NULL if there is none. */
const cJSON *pq_field_find(const cJSON *list, const char *key, const char *text);

/** Making objects: false without memory. Nothing is added for a number that is not finite and for
 *  NULL; text is made valid UTF-8. */
bool pq_put_number(cJSON *o, const char *key, double v);
bool pq_put_text(cJSON *o, const char *key, const char *text);
bool pq_put_copy(cJSON *o, const char *key, const cJSON *v);
/** A new object at the end of a list; NULL without memory. */
cJSON *pq_put_row(cJSON *list);

/** Make every string and key below v valid UTF-8 without control characters. */
void pq_fields_clean(cJSON *v);

#endif
