/* The parts of the page that are text and tables. */
#include <string.h>

#include "report/charts.h"

/* ---- ranges ---- */

/* What was seen as a line, what the scale covers as a bar. */
static void range_bar(pq_page *p, const cJSON *v)
{
    const double min = pq_field_number(v, "min"), max = pq_field_number(v, "max");
    const double low = pq_field_number(v, "low"), high = pq_field_number(v, "high");
    const double a = fmin(fmin(min, low), 0), b = fmax(fmax(max, high), 0);
    if (!(b > a)) return;
    const double f = 140 / (b - a);
    pq_page_f(p,
              "<svg class=\"range\" viewBox=\"0 0 144 18\" aria-hidden=\"true\"><path "
              "class=\"axis\" d=\"M%.1f 9H%.1fM%.1f 5v8M%.1f 5v8\"/><rect class=\"b8\" x=\"%.1f\" "
              "y=\"6\" width=\"%.1f\" height=\"6\"/><path class=\"axis\" d=\"M%.1f 1v16\"/></svg>",
              2 + (min - a) * f, 2 + (max - a) * f, 2 + (min - a) * f, 2 + (max - a) * f,
              2 + (low - a) * f, fmax((high - low) * f, 1), 2 - a * f);
}

static void significant(pq_page *p, double v)
{
    const double size = fabs(v);
    pq_page_number(p, v, size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3, false);
}

void pq_page_ranges(pq_page *p, const cJSON *doc)
{
    const cJSON *list = pq_field_list(doc, "ranges"), *v;
    if (!list) return;
    pq_page_section(p, "ranges", "Why these operators are sensitive");
    pq_page_raw(
        p, "<p>Operators that stay in full precision, or cost most in INT8, and the range of "
           "what they read. The line is what calibration saw, the bar what the scale "
           "covers.</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
           "aria-label=\"Ranges of sensitive operators\"><table class=\"stack\"><thead><tr><th "
           "scope=\"col\">Operator</th><th scope=\"col\">Seen</th><th "
           "scope=\"col\">Covered</th><th scope=\"col\">Range</th><th "
           "scope=\"col\">Reason</th></tr></thead><tbody>\n");
    cJSON_ArrayForEach(v, list)
    {
        const char *precision = pq_field_text(v, "precision");
        const double error = pq_field_number(v, "error_before");
        const double saved = pq_field_number(v, "ms_saved");
        const bool int8 = precision && strcmp(precision, "int8") == 0;
        pq_page_f(p, "<tr><td class=\"name\"><span class=\"%s\">", int8 ? "int8" : "float");
        pq_page_text(p, pq_field_text(v, "operator"));
        pq_page_raw(p, "</span><br><small>reads ");
        pq_page_text(p, pq_field_text(v, "tensor"));
        pq_page_raw(p, "</small></td><td data-head=\"Seen\">");
        significant(p, pq_field_number(v, "min"));
        pq_page_raw(p, " to ");
        significant(p, pq_field_number(v, "max"));
        pq_page_raw(p, "</td><td data-head=\"Covered\">");
        significant(p, pq_field_number(v, "low"));
        pq_page_raw(p, " to ");
        significant(p, pq_field_number(v, "high"));
        if (pq_field_text(v, "method")) {
            pq_page_raw(p, " <small>");
            pq_page_text(p, pq_field_text(v, "method"));
            pq_page_raw(p, "</small>");
        }
        pq_page_raw(p, "</td><td>");
        range_bar(p, v);
        pq_page_raw(p, "</td><td>");
        pq_page_text(p, pq_field_text(v, "reason"));
        if (isfinite(error))
            pq_page_f(p, "; INT8 gives its output an error of %.2f&nbsp;%% of its variance",
                      100 * error);
        if (saved <= 0 && !int8) {
            pq_page_raw(p, "; INT8 would save no time here (");
            pq_page_number(p, 1000 * saved, 0, true);
            pq_page_raw(p, "&nbsp;\xc2\xb5s)");
        }
        if (pq_field_text(v, "advice")) {
            pq_page_raw(p, "<br><small>");
            pq_page_text(p, pq_field_text(v, "advice"));
            pq_page_raw(p, "</small>");
        }
        pq_page_raw(p, "</td></tr>\n");
    }
    pq_page_raw(p, "</tbody></table></div></section>\n");
}

/* ---- corrections ---- */

/* Geometric mean of before / after over a list: how many times smaller errors became. */
static double gain(const cJSON *list, int *n)
{
    const cJSON *v;
    double sum = 0;
    *n = 0;
    cJSON_ArrayForEach(v, list)
    {
        const double before = pq_field_number(v, "error_before"),
                     after = pq_field_number(v, "error");
        if (!(before > 0) || !(after > 0)) continue;
        sum += log(before / after);
        (*n)++;
    }
    return *n ? exp(sum / *n) : NAN;
}

/* A member's name in words. */
static void spaced(pq_page *p, const char *name)
{
    for (const char *s = name; s && *s;) {
        const size_t n = pq_utf8_length(s);
        char one[8] = {0};
        memcpy(one, *s == '_' ? " " : s, n ? n : 1);
        pq_page_text(p, one);
        s += n ? n : 1;
    }
}

/* Scalars of an object, those of its objects under both names; lists by their length. */
static void facts(pq_page *p, const cJSON *o, const char *group, const char *const *hidden)
{
    const cJSON *v;
    cJSON_ArrayForEach(v, o)
    {
        bool skip = !v->string || cJSON_IsNull(v);
        for (size_t i = 0; !skip && hidden && hidden[i]; i++)
            skip = strcmp(v->string, hidden[i]) == 0;
        if (skip) continue;
        if (cJSON_IsObject(v)) {
            if (!group) facts(p, v, v->string, NULL);
            continue;
        }
        pq_page_raw(p, "<dt>");
        spaced(p, group);
        if (group) pq_page_raw(p, " ");
        spaced(p, v->string);
        pq_page_raw(p, strstr(v->string, "hash") ? "</dt><dd class=\"mono\">" : "</dt><dd>");
        if (cJSON_IsString(v))
            pq_page_text(p, v->valuestring);
        else if (cJSON_IsNumber(v) && isfinite(v->valuedouble))
            pq_page_f(p, fmod(v->valuedouble, 1) == 0 ? "%.15g" : "%.4g", v->valuedouble);
        else if (cJSON_IsArray(v))
            pq_page_f(p, "%d", cJSON_GetArraySize(v));
        else
            pq_page_raw(p, cJSON_IsTrue(v) ? "yes" : "no");
        pq_page_raw(p, "</dd>\n");
    }
}

static void correction_table(pq_page *p, const cJSON *list, const char *key, const char *summary)
{
    const char *const head[] = {strcmp(key, "node") == 0 ? "Operator" : "Tensor", "#Error before",
                                "#Error after", "#Times smaller", NULL};
    const cJSON *v;
    pq_page_table(p, summary, head);
    cJSON_ArrayForEach(v, list)
    {
        const double before = pq_field_number(v, "error_before"),
                     after = pq_field_number(v, "error");
        pq_page_raw(p, "<tr><td class=\"name\">");
        pq_page_text(p, pq_field_text(v, key));
        pq_page_raw(p, "</td>");
        pq_page_cell(p, before, 6, false);
        pq_page_cell(p, after, 6, false);
        pq_page_cell(p, after > 0 ? before / after : NAN, 1, false);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_table_end(p);
}

/* How far detections move with each stage, on the images that judged it. */
static void stages(pq_page *p, const cJSON *summary)
{
    static const char *const row[][2] = {{"ranges_alone", "ranges alone"},
                                         {"with_equalisation", "equalisation"},
                                         {"with_reencoding", "re-encoding"},
                                         {"with_reconstruction", "reconstruction"}};
    const cJSON *move = pq_field(summary, "detections_move");
    const char *dropped = pq_field_text(summary, "dropped");
    if (!cJSON_IsObject(move)) return;
    pq_page_f(p,
              "<p>Whether a correction stays is judged on %.0f images kept apart: how far "
              "detections are from those of full precision, all operators in INT8.</p>\n",
              pq_field_number(summary, "checked_images"));
    pq_page_raw(p, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"What each "
                   "correction gave\"><table class=\"few\"><thead><tr><th scope=\"col\">With</th>"
                   "<th scope=\"col\" class=\"n\">Detections move, %</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const double v = pq_field_number(move, row[i][0]);
        if (!isfinite(v)) continue;
        pq_page_f(p, "<tr><th scope=\"row\">%s%s%s</th>", i ? "+ " : "", row[i][1],
                  dropped && strstr(dropped, row[i][1]) ? " (did not help, left out)" : "");
        pq_page_cell(p, 100 * v, 2, false);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_raw(p, "</tbody></table></div>\n");
}

void pq_page_corrections(pq_page *p, const cJSON *doc)
{
    static const char *const hidden[] = {"checked_images", "detections_move", "dropped", NULL};
    const cJSON *c = pq_field(doc, "corrections"), *enc = pq_field_list(c, "encodings");
    const cJSON *fix = pq_field_list(c, "operators"), *seconds = pq_field_list(c, "seconds"), *v;
    int n_enc, n_fix;
    double total = 0;
    if (!c || (!enc && !fix && !pq_field(c, "summary"))) return;
    const double by_enc = gain(enc, &n_enc), by_fix = gain(fix, &n_fix);
    pq_page_section(p, "corrections", "What correcting scales and weights gave");
    pq_page_raw(p, "<p>");
    if (n_enc)
        pq_page_f(p,
                  "Channels of %d tensors were brought to like magnitudes: the error of what is "
                  "computed from them is %.1f times smaller (geometric mean). ",
                  n_enc, by_enc);
    if (n_fix) {
        pq_page_f(p,
                  "Weights or biases of %d operators were reconstructed: the error of their "
                  "outputs ",
                  n_fix);
        if (by_fix >= 1.05)
            pq_page_f(p, "is %.1f times smaller. ", by_fix);
        else
            pq_page_raw(p, "hardly changed on the whole. ");
    }
    cJSON_ArrayForEach(v, seconds) total += cJSON_IsNumber(v) ? v->valuedouble : 0;
    if (total > 0) pq_page_f(p, "Calibration and corrections took %.0f seconds.", total);
    pq_page_raw(p, "</p>\n");
    if (pq_field(c, "summary")) {
        stages(p, pq_field(c, "summary"));
        pq_page_raw(p, "<dl class=\"facts\">");
        facts(p, pq_field(c, "summary"), NULL, hidden);
        pq_page_raw(p, "</dl>\n");
    }
    if (enc) correction_table(p, enc, "value", "Table of re-encoded tensors");
    if (fix) correction_table(p, fix, "node", "Table of reconstructed operators");
    pq_page_raw(p, "<p class=\"note\">Errors are mean squared errors over the variance of what is "
                   "computed.</p></section>\n");
}

/* ---- audit ---- */

static void audit_table(pq_page *p, const cJSON *list)
{
    static const char *const head[] = {
        "Operator", "Wanted", "Ran as", "Kernel", "#ms", "#with conversions, ms", NULL};
    const cJSON *v;
    pq_page_table(p, "Table of kernels", head);
    cJSON_ArrayForEach(v, list)
    {
        const double ms = pq_field_number(v, "ms"), convert = pq_field_number(v, "convert_ms");
        static const char *const text[] = {"wanted", "achieved", "kernel"};
        pq_page_raw(p, "<tr><td class=\"name\">");
        pq_page_text(p, pq_field_text(v, "name"));
        for (int i = 0; i < 3; i++) {
            const bool bad = i == 1 && cJSON_IsFalse(pq_field(v, "as_planned"));
            pq_page_raw(p, bad ? "</td><td class=\"bad\">" : "</td><td>");
            pq_page_text(p, pq_field_text(v, text[i]));
        }
        pq_page_raw(p, "</td>");
        pq_page_cell(p, ms, 4, false);
        pq_page_cell(p, ms + (isfinite(convert) ? convert : 0), 4, false);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_table_end(p);
}

void pq_page_audit(pq_page *p, const cJSON *doc)
{
    const cJSON *a = pq_field(doc, "audit"), *v, *ops = pq_field_list(a, "operators");
    if (!a) return;
    const double faults = pq_field_number(a, "faults");
    pq_page_section(p, "audit", "Does it run as planned?");
    pq_page_f(p, "<p><b class=\"%s\">%s</b> ", faults > 0 ? "bad" : "good",
              faults > 0 ? "Not everywhere." : "Yes.");
    pq_page_number(p, pq_field_number(a, "as_planned"), 0, false);
    pq_page_f(p, " of %d operators run on ", cJSON_GetArraySize(ops));
    pq_page_text(p, pq_field_text(a, "target"));
    pq_page_raw(p, " (");
    pq_page_text(p, pq_field_text(a, "version"));
    pq_page_raw(p, ") as the plan says. Kernels take ");
    pq_page_number(p, pq_field_number(a, "kernels_ms"), 3, false);
    pq_page_raw(p, " ms, among them ");
    pq_page_number(p, pq_field_number(a, "conversions"), 0, false);
    pq_page_raw(p, " conversions with ");
    pq_page_number(p, pq_field_number(a, "conversions_ms"), 3, false);
    pq_page_raw(p, " ms and ");
    pq_page_number(p, pq_field_number(a, "reorders"), 0, false);
    pq_page_raw(p, " changes of layout with ");
    pq_page_number(p, pq_field_number(a, "reorders_ms"), 3, false);
    pq_page_raw(p, " ms.</p>\n");
    if (pq_field_list(a, "findings")) {
        pq_page_raw(p, "<ul>");
        cJSON_ArrayForEach(v, pq_field(a, "findings"))
        {
            const char *kind = pq_field_text(v, "kind"), *name = pq_field_text(v, "name");
            const bool fault = kind && strcmp(kind, "fault") == 0;
            pq_page_f(p, "<li><b class=\"%s\">%s</b> ", fault ? "bad" : "warn",
                      fault ? "fault" : "note");
            if (name && *name) {
                pq_page_raw(p, "<span class=\"mono\">");
                pq_page_text(p, name);
                pq_page_raw(p, "</span>: ");
            }
            pq_page_text(p, pq_field_text(v, "text"));
            pq_page_raw(p, "</li>\n");
        }
        pq_page_raw(p, "</ul>\n");
    }
    if (ops) audit_table(p, ops);
    pq_page_raw(p, "</section>\n");
}

/* ---- repeating it ---- */

static bool is_plain(const char *s)
{
    if (!*s) return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") ==
           strlen(s);
}

/* As a shell takes it. */
static void word(pq_page *p, const char *s)
{
    if (is_plain(s)) {
        pq_page_text(p, s);
        return;
    }
    pq_page_text(p, "'");
    for (; *s;) {
        const char *quote = strchr(s, '\'');
        const size_t n = quote ? (size_t)(quote - s) : strlen(s);
        for (size_t i = 0; i < n;) { /* piece by piece through the escaping */
            char one[5] = {0};
            size_t k = pq_utf8_length(s + i);
            k = k ? k : 1;
            memcpy(one, s + i, k <= n - i ? k : 1);
            pq_page_text(p, one);
            i += k;
        }
        s += n;
        if (quote) {
            pq_page_text(p, "'\\''");
            s++;
        }
    }
    pq_page_text(p, "'");
}

void pq_page_repeat(pq_page *p, const cJSON *doc)
{
    const cJSON *run = pq_field(doc, "run"), *line = pq_field_list(run, "command_line"), *v;
    static const char *const hidden[] = {"command_line", "images", "command", NULL};
    pq_page_section(p, "repeat", "How to repeat the run");
    if (line) {
        pq_page_raw(p, "<pre><code>pquant");
        cJSON_ArrayForEach(v, line)
        {
            if (!cJSON_IsString(v)) continue;
            pq_page_raw(p, " ");
            word(p, v->valuestring);
        }
        pq_page_raw(p, "</code></pre>\n");
    }
    pq_page_raw(p, "<dl class=\"facts\">");
    facts(p, run, NULL, hidden);
    pq_page_raw(p, "</dl>\n");
    if (pq_field_list(run, "images")) {
        pq_page_f(p, "<details><summary>The %d images</summary><p class=\"mono\">",
                  cJSON_GetArraySize(pq_field(run, "images")));
        cJSON_ArrayForEach(v, pq_field(run, "images"))
        {
            pq_page_text(p, cJSON_GetStringValue(v));
            pq_page_raw(p, " ");
        }
        pq_page_raw(p, "</p></details>\n");
    }
    pq_page_raw(p, "</section>\n");
}
