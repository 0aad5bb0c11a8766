/* Two runs side by side: what was set, what came out, which operators differ. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "report/charts.h"

/* ---- the document ---- */

static bool same_text(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

static bool add_side(cJSON *doc, const char *key, const cJSON *from)
{
    const cJSON *run = pq_field(from, "run"), *verdict = pq_field(from, "verdict");
    cJSON *o = cJSON_AddObjectToObject(doc, key);
    return o && pq_put_text(o, "folder", pq_field_text(run, "folder")) &&
           pq_put_text(o, "model", pq_field_text(run, "model")) &&
           pq_put_copy(o, "verdict", verdict);
}

static bool add_setting(cJSON *list, const char *group, const char *name, const cJSON *a,
                        const cJSON *b)
{
    char text[128];
    if ((!a && !b) || cJSON_Compare(a, b, true)) return true;
    snprintf(text, sizeof text, "%s%s%s", group, *group ? "." : "", name);
    cJSON *o = pq_put_row(list);
    return o && pq_put_text(o, "name", text) && pq_put_copy(o, "a", a) && pq_put_copy(o, "b", b);
}

static bool is_scalar(const cJSON *v) { return !v || (!cJSON_IsObject(v) && !cJSON_IsArray(v)); }

/* Scalars of two objects that differ: those of a, then those of b alone. */
static bool add_settings(cJSON *list, const char *group, const cJSON *a, const cJSON *b)
{
    const cJSON *v;
    bool ok = true;
    cJSON_ArrayForEach(v, a)
    {
        const cJSON *other = pq_field(b, v->string);
        if (ok && is_scalar(v) && is_scalar(other))
            ok = add_setting(list, group, v->string, v, other);
    }
    cJSON_ArrayForEach(v, b) if (ok && is_scalar(v) && !pq_field(a, v->string)) ok =
        add_setting(list, group, v->string, NULL, v);
    return ok;
}

/* An option without a value: --no-adaround, --pareto. */
static bool is_flag(const cJSON *word)
{
    const char *s = cJSON_GetStringValue(word), *next = cJSON_GetStringValue(word->next);
    if (!s || strncmp(s, "--", 2) != 0 || !strcmp(s, "--quiet") || !strcmp(s, "--json"))
        return false;
    return !next || (next[0] == '-' && (next[1] < '0' || next[1] > '9'));
}

/* Flags of `has` that `lacks` was not given: no other member of a run tells of them. */
static bool add_flags(cJSON *list, const cJSON *has, const cJSON *lacks, bool of_a)
{
    cJSON *yes = cJSON_CreateTrue();
    const cJSON *word, *other;
    bool ok = yes != NULL;
    cJSON_ArrayForEach(word, has)
    {
        bool there = !is_flag(word);
        cJSON_ArrayForEach(other, lacks) there |=
            same_text(cJSON_GetStringValue(word), cJSON_GetStringValue(other));
        if (ok && !there)
            ok = add_setting(list, "", word->valuestring, of_a ? yes : NULL, of_a ? NULL : yes);
    }
    cJSON_Delete(yes);
    return ok;
}

static bool add_all_settings(cJSON *doc, const cJSON *a, const cJSON *b)
{
    const cJSON *words_a = pq_field_list(a, "command_line");
    const cJSON *words_b = pq_field_list(b, "command_line");
    static const char *const plain[] = {"pquant", "model",      "family",         "graph_hash",
                                        "scheme", "max_drop",   "max_latency_ms", "data",
                                        "seed",   "annotations"};
    static const char *const group[] = {"engine", "machine", "calibration", "postprocessing",
                                        "options"};
    cJSON *list = cJSON_AddArrayToObject(doc, "settings");
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < sizeof plain / sizeof *plain; i++)
        if (is_scalar(pq_field(a, plain[i])) && is_scalar(pq_field(b, plain[i])))
            ok = add_setting(list, "", plain[i], pq_field(a, plain[i]), pq_field(b, plain[i]));
    for (size_t i = 0; ok && i < sizeof group / sizeof *group; i++)
        ok = add_settings(list, group[i], pq_field(a, group[i]), pq_field(b, group[i]));
    if (ok && words_a && words_b)
        ok = add_flags(list, words_a, words_b, true) && add_flags(list, words_b, words_a, false);
    return ok;
}

static bool add_row(cJSON *list, const char *name, const cJSON *a, const cJSON *b)
{
    static const char *const key[] = {"AP",        "ms",      "drop", "drop_low",
                                      "drop_high", "speedup", "kept"};
    const cJSON *const side[2] = {a, b};
    cJSON *o = pq_put_row(list);
    bool ok = o && pq_put_text(o, "name", name);
    for (int s = 0; ok && s < 2; s++) {
        if (!side[s]) continue;
        cJSON *to = cJSON_AddObjectToObject(o, s == 0 ? "a" : "b");
        ok = to != NULL;
        for (size_t i = 0; ok && i < sizeof key / sizeof *key; i++)
            ok = pq_put_number(to, key[i], pq_field_number(side[s], key[i]));
    }
    return ok &&
           pq_put_number(o, "AP_difference", pq_field_number(b, "AP") - pq_field_number(a, "AP")) &&
           pq_put_number(o, "ms_ratio", pq_field_number(a, "ms") / pq_field_number(b, "ms"));
}

static bool add_rows(cJSON *doc, const cJSON *a, const cJSON *b)
{
    const cJSON *from_a = pq_field(a, "precisions"), *from_b = pq_field(b, "precisions"), *v;
    cJSON *list = cJSON_AddArrayToObject(doc, "precisions");
    bool ok = list != NULL;
    cJSON_ArrayForEach(v, from_a)
    {
        const char *name = pq_field_text(v, "name");
        if (ok) ok = add_row(list, name, v, pq_field_find(from_b, "name", name));
    }
    cJSON_ArrayForEach(v, from_b)
    {
        const char *name = pq_field_text(v, "name");
        if (ok && !pq_field_find(from_a, "name", name)) ok = add_row(list, name, NULL, v);
    }
    return ok;
}

/* Operators of both by name; lists are walked together while names agree, so that two runs of one
 * model take linear time. */
static bool add_operators(cJSON *doc, const cJSON *a, const cJSON *b)
{
    const cJSON *from_b = pq_field(b, "operators"), *v, *next = from_b ? from_b->child : NULL;
    cJSON *list = cJSON_AddArrayToObject(doc, "operators");
    double both = 0, only_a = 0;
    bool ok = list != NULL;
    cJSON_ArrayForEach(v, pq_field(a, "operators"))
    {
        const char *name = pq_field_text(v, "name");
        const cJSON *w = next && same_text(pq_field_text(next, "name"), name)
                             ? next
                             : pq_field_find(from_b, "name", name);
        next = w ? w->next : next;
        if (!w) {
            only_a++;
            continue;
        }
        both++;
        const char *pa = pq_field_text(v, "precision"), *pb = pq_field_text(w, "precision");
        if (!ok || !pa || !pb || strcmp(pa, pb) == 0) continue;
        cJSON *o = pq_put_row(list);
        ok = o && pq_put_number(o, "index", pq_field_number(v, "index")) &&
             pq_put_text(o, "name", name) && pq_put_text(o, "a", pa) && pq_put_text(o, "b", pb) &&
             pq_put_number(o, "damage_a", pq_field_number(v, "damage")) &&
             pq_put_number(o, "damage_b", pq_field_number(w, "damage"));
    }
    return ok && pq_put_number(doc, "operators_in_both", both) &&
           pq_put_number(doc, "operators_in_a_only", only_a) &&
           pq_put_number(doc, "operators_in_b_only", cJSON_GetArraySize(from_b) - both);
}

static pq_status build(pq_ctx *ctx, cJSON *doc, const cJSON *a, const cJSON *b)
{
    const cJSON *ra = pq_field(a, "run"), *rb = pq_field(b, "run");
    const cJSON *ia = pq_field(ra, "images"), *ib = pq_field(rb, "images");
    const bool images = (!ia && !ib) || cJSON_Compare(ia, ib, true);
    const bool ok = cJSON_AddNumberToObject(doc, "pquant_comparison", 1) && add_side(doc, "a", a) &&
                    add_side(doc, "b", b) && cJSON_AddBoolToObject(doc, "same_images", images) &&
                    cJSON_AddStringToObject(doc, "metric", pq_report_metric(a)) &&
                    add_all_settings(doc, ra, rb) && add_rows(doc, a, b) &&
                    add_operators(doc, a, b);
    return ok ? PQ_OK : pq_json_check(ctx, NULL);
}

/* ---- as text ---- */

static void padded(pq_page *p, double v, int decimals, bool sign)
{
    if (isfinite(v))
        pq_page_f(p, sign ? " %+10.*f" : " %10.*f", decimals, v);
    else
        pq_page_f(p, " %10s", "-");
}

static void text_rows(pq_page *p, const cJSON *doc)
{
    const cJSON *v;
    pq_page_f(p, "%-16s %10s %10s %10s %10s %10s %10s\n", "", "AP of A", "of B", "points",
              "ms of A", "of B", "times");
    cJSON_ArrayForEach(v, pq_field(doc, "precisions"))
    {
        const cJSON *a = pq_field(v, "a"), *b = pq_field(v, "b");
        const char *title = pq_report_row_title(pq_field_text(v, "name"));
        pq_page_raw(p, title);
        for (size_t n = strlen(title); n < 16; n++) pq_page_raw(p, " ");
        padded(p, pq_field_number(a, "AP"), 4, false);
        padded(p, pq_field_number(b, "AP"), 4, false);
        padded(p, 100 * pq_field_number(v, "AP_difference"), 2, true);
        padded(p, pq_field_number(a, "ms"), 3, false);
        padded(p, pq_field_number(b, "ms"), 3, false);
        padded(p, pq_field_number(v, "ms_ratio"), 2, false);
        pq_page_raw(p, "\n");
    }
}

static void text_value(pq_page *p, const cJSON *v)
{
    if (cJSON_IsString(v))
        pq_page_raw(p, v->valuestring);
    else if (cJSON_IsNumber(v))
        pq_page_f(p, "%.6g", v->valuedouble);
    else
        pq_page_raw(p, !v ? "-" : cJSON_IsTrue(v) ? "yes" : "no");
}

static void text_operators(pq_page *p, const cJSON *doc)
{
    const cJSON *v, *list = pq_field(doc, "operators");
    pq_page_f(p, "\nprecision differs in %d of %.0f operators%s\n", cJSON_GetArraySize(list),
              pq_field_number(doc, "operators_in_both"), list->child ? ":" : "");
    cJSON_ArrayForEach(v, list)
    {
        const double da = pq_field_number(v, "damage_a"), db = pq_field_number(v, "damage_b");
        pq_page_raw(p, "  ");
        pq_page_raw(p, pq_field_text(v, "name"));
        pq_page_raw(p, ": ");
        pq_page_raw(p, pq_field_text(v, "a"));
        pq_page_raw(p, " in A, ");
        pq_page_raw(p, pq_field_text(v, "b"));
        pq_page_raw(p, " in B");
        if (isfinite(da) && isfinite(db))
            pq_page_f(p, "; damage %+.2f and %+.2f points", 100 * da, 100 * db);
        pq_page_raw(p, "\n");
    }
    const double a = pq_field_number(doc, "operators_in_a_only");
    const double b = pq_field_number(doc, "operators_in_b_only");
    if (a > 0 || b > 0) pq_page_f(p, "  %.0f operators are in A only, %.0f in B only\n", a, b);
}

static void as_text(pq_page *p, const cJSON *doc)
{
    static const char *const side[2] = {"a", "b"};
    const cJSON *v;
    for (int i = 0; i < 2; i++) {
        const cJSON *o = pq_field(doc, side[i]);
        pq_page_raw(p, i == 0 ? "A: " : "B: ");
        pq_page_raw(p, pq_field_text(o, "folder"));
        pq_page_raw(p, ": ");
        pq_page_raw(p, pq_field_text(pq_field(o, "verdict"), "text"));
        pq_page_raw(p, "\n");
    }
    if (!pq_field_true(doc, "same_images"))
        pq_page_raw(p, "the runs were measured on different images: APs do not compare\n");
    pq_page_raw(p, "\n");
    text_rows(p, doc);
    if (pq_field_list(doc, "settings")) pq_page_raw(p, "\nsettings that differ:\n");
    cJSON_ArrayForEach(v, pq_field(doc, "settings"))
    {
        pq_page_raw(p, "  ");
        pq_page_raw(p, pq_field_text(v, "name"));
        pq_page_raw(p, ": ");
        text_value(p, pq_field(v, "a"));
        pq_page_raw(p, " in A, ");
        text_value(p, pq_field(v, "b"));
        pq_page_raw(p, " in B\n");
    }
    text_operators(p, doc);
}

pq_status pq_report_compare(pq_ctx *ctx, pq_report **out, const pq_report *a, const pq_report *b)
{
    pq_report *r = NULL;
    pq_page text = {.ctx = ctx};
    pq_status st;
    *out = NULL;
    if (a->comparison || b->comparison)
        return pq_fail(ctx, PQ_E_INVALID, "a comparison, expected the report of a run");
    PQ_TRY(pq_alloc(ctx, &r, 1, sizeof *r));
    r->comparison = true;
    r->doc = cJSON_CreateObject();
    PQ_TRY(pq_json_check(ctx, r->doc));
    PQ_TRY(build(ctx, r->doc, a->doc, b->doc));
    as_text(&text, r->doc);
    PQ_TRY(text.st);
    r->text = text.text;
    text.text = NULL;
    *out = r;
    r = NULL;
out:
    pq_free(text.text);
    pq_report_free(r);
    return st;
}

/* ---- as a page ---- */

static void page_sides(pq_page *p, const cJSON *doc)
{
    static const char *const side[2] = {"a", "b"};
    pq_page_section(p, "runs", "The two runs");
    pq_page_raw(p, "<dl class=\"facts\">");
    for (int i = 0; i < 2; i++) {
        const cJSON *o = pq_field(doc, side[i]);
        pq_page_f(p, "<dt>%s</dt><dd><b>", i == 0 ? "A" : "B");
        pq_page_text(p, pq_field_text(pq_field(o, "verdict"), "text"));
        pq_page_raw(p, "</b><br><span class=\"mono\">");
        pq_page_text(p, pq_field_text(o, "folder"));
        pq_page_raw(p, "</span></dd>");
    }
    pq_page_raw(p, "</dl>\n");
    if (!pq_field_true(doc, "same_images"))
        pq_page_raw(p, "<p class=\"warn\">The runs were measured on different images: APs do not "
                       "compare.</p>\n");
    pq_page_raw(p, "</section>\n");
}

static void page_rows(pq_page *p, const cJSON *doc)
{
    const cJSON *v;
    pq_page_section(p, "figures", "Figures");
    pq_page_f(p,
              "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
              "aria-label=\"Figures\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\" "
              "class=\"n\">%s of A</th><th scope=\"col\" class=\"n\">%s of B</th><th scope=\"col\" "
              "class=\"n\">B less A, points</th><th scope=\"col\" class=\"n\">ms of A</th><th "
              "scope=\"col\" class=\"n\">ms of B</th><th scope=\"col\" class=\"n\">B is "
              "faster</th></tr></thead><tbody>\n",
              pq_report_metric(doc), pq_report_metric(doc));
    cJSON_ArrayForEach(v, pq_field(doc, "precisions"))
    {
        const cJSON *a = pq_field(v, "a"), *b = pq_field(v, "b");
        const double ratio = pq_field_number(v, "ms_ratio");
        pq_page_raw(p, "<tr><th scope=\"row\">");
        pq_page_text(p, pq_report_row_title(pq_field_text(v, "name")));
        pq_page_raw(p, "</th>");
        pq_page_cell(p, 100 * pq_field_number(a, "AP"), 2, false);
        pq_page_cell(p, 100 * pq_field_number(b, "AP"), 2, false);
        pq_page_cell(p, 100 * pq_field_number(v, "AP_difference"), 2, true);
        pq_page_cell(p, pq_field_number(a, "ms"), 3, false);
        pq_page_cell(p, pq_field_number(b, "ms"), 3, false);
        pq_page_raw(p, "<td class=\"n\">");
        pq_page_number(p, ratio, 2, false);
        pq_page_raw(p, isfinite(ratio) ? "\xc3\x97</td></tr>\n" : "</td></tr>\n");
    }
    pq_page_raw(p, "</tbody></table></div></section>\n");
}

static void page_value(pq_page *p, const cJSON *v)
{
    pq_page_raw(p, "<td class=\"name\">");
    if (cJSON_IsString(v))
        pq_page_text(p, v->valuestring);
    else if (cJSON_IsNumber(v))
        pq_page_f(p, "%.6g", v->valuedouble);
    else
        pq_page_raw(p, !v ? "\xe2\x80\x93" : cJSON_IsTrue(v) ? "yes" : "no");
    pq_page_raw(p, "</td>");
}

static void page_settings(pq_page *p, const cJSON *doc)
{
    const cJSON *v;
    if (!pq_field_list(doc, "settings")) return;
    pq_page_section(p, "settings", "Settings that differ");
    pq_page_raw(p,
                "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Settings that "
                "differ\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\">A</th><th "
                "scope=\"col\">B</th></tr></thead><tbody>\n");
    cJSON_ArrayForEach(v, pq_field(doc, "settings"))
    {
        pq_page_raw(p, "<tr><th scope=\"row\">");
        pq_page_text(p, pq_field_text(v, "name"));
        pq_page_raw(p, "</th>");
        page_value(p, pq_field(v, "a"));
        page_value(p, pq_field(v, "b"));
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_raw(p, "</tbody></table></div></section>\n");
}

static void page_operators(pq_page *p, const cJSON *doc)
{
    static const char *const side[2] = {"a", "b"};
    const cJSON *v, *list = pq_field_list(doc, "operators");
    pq_page_section(p, "operators", "Operators whose precision differs");
    pq_page_f(p, "<p>%d of %.0f that both runs have.", cJSON_GetArraySize(list),
              pq_field_number(doc, "operators_in_both"));
    const double a = pq_field_number(doc, "operators_in_a_only");
    const double b = pq_field_number(doc, "operators_in_b_only");
    if (a > 0 || b > 0) pq_page_f(p, " %.0f are in A only, %.0f in B only.", a, b);
    pq_page_raw(p, "</p>\n");
    if (list) {
        pq_page_raw(p,
                    "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Operators "
                    "whose precision differs\"><table><thead><tr><th "
                    "scope=\"col\">Operator</th><th scope=\"col\">A</th><th "
                    "scope=\"col\">B</th><th scope=\"col\" class=\"n\">Damage in A, "
                    "points</th><th scope=\"col\" class=\"n\">in B</th></tr></thead><tbody>\n");
        cJSON_ArrayForEach(v, list)
        {
            pq_page_raw(p, "<tr><td class=\"name\">");
            pq_page_text(p, pq_field_text(v, "name"));
            pq_page_raw(p, "</td>");
            for (int i = 0; i < 2; i++) {
                const char *precision = pq_field_text(v, side[i]);
                pq_page_f(p, "<td class=\"%s\">",
                          precision && strcmp(precision, "int8") == 0 ? "int8" : "float");
                pq_page_text(p, precision);
                pq_page_raw(p, "</td>");
            }
            pq_page_cell(p, 100 * pq_field_number(v, "damage_a"), 2, true);
            pq_page_cell(p, 100 * pq_field_number(v, "damage_b"), 2, true);
            pq_page_raw(p, "</tr>\n");
        }
        pq_page_raw(p, "</tbody></table></div>");
    }
    pq_page_raw(p, "</section>\n");
}

void pq_page_comparison(pq_page *p, const cJSON *doc)
{
    page_sides(p, doc);
    page_rows(p, doc);
    page_settings(p, doc);
    page_operators(p, doc);
}
