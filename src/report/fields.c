/* Members of JSON objects, and strings that a page may show. */
#include "report/fields.h"

#include <string.h>

#include "report/page.h"

const cJSON *pq_field_find(const cJSON *list, const char *key, const char *text)
{
    const cJSON *v;
    if (!text) return NULL;
    cJSON_ArrayForEach(v, list)
    {
        const char *have = pq_field_text(v, key);
        if (have && strcmp(have, text) == 0) return v;
    }
    return NULL;
}

bool pq_put_number(cJSON *o, const char *key, double v)
{
    return !isfinite(v) || cJSON_AddNumberToObject(o, key, v) != NULL;
}

/* In place: what does not belong becomes '?'. */
static void clean(char *s)
{
    for (size_t n; *s; s += n) {
        n = pq_utf8_length(s);
        if (n) continue;
        *s = '?';
        n = 1;
    }
}

bool pq_put_text(cJSON *o, const char *key, const char *text)
{
    if (!text) return true;
    cJSON *v = cJSON_AddStringToObject(o, key, text);
    if (v) clean(v->valuestring);
    return v != NULL;
}

bool pq_put_copy(cJSON *o, const char *key, const cJSON *v)
{
    if (!v) return true;
    cJSON *copy = cJSON_Duplicate(v, true);
    if (cJSON_AddItemToObject(o, key, copy)) return true;
    cJSON_Delete(copy);
    return false;
}

cJSON *pq_put_row(cJSON *list)
{
    cJSON *o = cJSON_CreateObject();
    if (cJSON_AddItemToArray(list, o)) return o;
    cJSON_Delete(o);
    return NULL;
}

/* Documents are as deep as cJSON's parser lets them be, 1000 levels: recursion is safe. */
void pq_fields_clean(cJSON *v)
{
    if (cJSON_IsString(v)) clean(v->valuestring);
    if (v->string) clean(v->string);
    for (cJSON *c = v->child; c; c = c->next) pq_fields_clean(c);
}
