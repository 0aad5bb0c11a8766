/* What each operator costs in accuracy and saves in time, in network order. */
#include <string.h>

#include "report/charts.h"

enum { SENS_W = 960, SENS_LEFT = 58, SENS_RIGHT = 10 };

typedef struct panel {
    const char *key, *title;
    double factor;
    double y, h; /* top and height */
} panel;

/* What no operator can cost: the mark of one that cannot run in INT8 at all. */
static const double impossible = 1e5;

static double value_of(const cJSON *op, const char *key)
{
    const double v = pq_field_number(op, key);
    return fabs(v) < impossible ? v : (double)NAN;
}

static bool is_estimate(const cJSON *op)
{
    const char *kind = pq_field_text(op, "kind");
    return kind && strcmp(kind, "proxy") == 0;
}

static bool is_kept(const cJSON *op)
{
    const char *precision = pq_field_text(op, "precision");
    return precision && strcmp(precision, "int8") != 0;
}

static void draw_panel(pq_page *p, const cJSON *ops, const panel *q, double pitch)
{
    const bool damage = strcmp(q->key, "damage") == 0;
    double lo = 0, hi = 0;
    const cJSON *op;
    int i = 0;
    cJSON_ArrayForEach(op, ops) { pq_widen(&lo, &hi, q->factor * value_of(op, q->key)); }
    const pq_axis y = pq_axis_make(lo, hi, q->y + q->h, q->y + 18, q->h > 120 ? 5 : 3);
    pq_page_y_grid(p, &y, SENS_LEFT, SENS_W - SENS_RIGHT, false);
    pq_page_f(p, "<text class=\"lab\" x=\"4\" y=\"%.1f\">%s</text>\n", q->y + 6, q->title);
    const double zero = pq_axis_at(&y, 0), w = fmax(0.5, fmin(pitch * 0.74, 16));
    cJSON_ArrayForEach(op, ops)
    {
        const double x = SENS_LEFT + (i++ + 0.5) * pitch;
        const double value = value_of(op, q->key);
        if (!isfinite(value)) continue;
        const double v = pq_axis_at(&y, q->factor * value);
        const double low = q->factor * pq_field_number(op, "damage_low");
        const double high = q->factor * pq_field_number(op, "damage_high");
        pq_page_f(p, "<rect class=\"%s%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>",
                  is_kept(op) ? "bf" : "b8",
                  damage && is_estimate(op)              ? " estimate"
                  : damage && pq_field_true(op, "noise") ? " faint"
                                                         : "",
                  x - w / 2, fmin(v, zero), w, fmax(fabs(v - zero), 0.6));
        if (damage && isfinite(low) && isfinite(high) && !pq_field_true(op, "noise"))
            pq_page_f(p, "<path class=\"whisker\" d=\"M%.2f %.2fV%.2f\"/>", x,
                      fmin(fmax(pq_axis_at(&y, low), q->y + 12), q->y + q->h),
                      fmin(fmax(pq_axis_at(&y, high), q->y + 12), q->y + q->h));
        pq_page_raw(p, "\n");
    }
}

static void shape_text(pq_page *p, const cJSON *shape)
{
    const cJSON *d;
    if (cJSON_IsString(shape)) pq_page_text(p, shape->valuestring);
    cJSON_ArrayForEach(d, shape)
    {
        if (d != shape->child) pq_page_raw(p, "\xc3\x97");
        pq_page_number(p, cJSON_IsNumber(d) ? d->valuedouble : NAN, 0, false);
    }
}

static void interval_text(pq_page *p, const cJSON *op)
{
    const double low = pq_field_number(op, "damage_low"), high = pq_field_number(op, "damage_high");
    if (!isfinite(low) || !isfinite(high)) return;
    pq_page_raw(p, " [");
    pq_page_number(p, 100 * low, 2, true);
    pq_page_raw(p, ", ");
    pq_page_number(p, 100 * high, 2, true);
    pq_page_raw(p, "]");
}

/* How many others change precision with it, and so have the same figures. */
static int companions(const cJSON *ops, const cJSON *op)
{
    const double unit = pq_field_number(op, "unit");
    const cJSON *v;
    int n = 0;
    if (!isfinite(unit)) return 0;
    cJSON_ArrayForEach(v, ops) n += v != op && pq_field_number(v, "unit") == unit;
    return n;
}

/* Everything about one operator over the whole height: what hovering and the arrow keys show. */
static void hit_areas(pq_page *p, const cJSON *doc, double pitch, double height)
{
    const cJSON *op;
    int i = 0;
    cJSON_ArrayForEach(op, pq_field(doc, "operators"))
    {
        const double damage = value_of(op, "damage"), ms = value_of(op, "ms_saved");
        const int others = companions(pq_field(doc, "operators"), op);
        pq_page_f(p,
                  "<rect data-mark class=\"hit\" x=\"%.2f\" y=\"0\" width=\"%.2f\" "
                  "height=\"%.1f\"><title>",
                  SENS_LEFT + i * pitch, pitch, height);
        pq_page_f(p, "%d: ", i);
        pq_page_text(p, pq_field_text(op, "name"));
        pq_page_raw(p, "\n");
        pq_page_text(p, pq_field_text(op, "type"));
        pq_page_raw(p, " ");
        shape_text(p, pq_field(op, "shape"));
        pq_page_raw(p, ", ");
        pq_page_text(p, pq_field_text(op, "precision"));
        if (isfinite(damage)) {
            pq_page_raw(p, is_estimate(op) ? "\nestimated damage: " : "\ndamage: ");
            pq_page_number(p, 100 * damage, 2, true);
            interval_text(p, op);
            pq_page_raw(p, " points");
            if (pq_field_true(op, "noise")) pq_page_raw(p, ", inside the noise");
        }
        if (isfinite(ms)) {
            pq_page_raw(p, "\nsaved by INT8: ");
            pq_page_number(p, 1000 * ms, 0, true);
            pq_page_raw(p, " \xc2\xb5s");
        }
        if (others) pq_page_f(p, "\ntogether with %d others that share its scale", others);
        if (pq_field_text(op, "advice")) {
            pq_page_raw(p, "\n");
            pq_page_text(p, pq_field_text(op, "advice"));
        }
        pq_page_raw(p, "</title></rect>\n");
        i++;
    }
}

static void sensitivity_table(pq_page *p, const cJSON *doc)
{
    static const char *const head[] = {
        "##",    "Operator", "Type", "Output", "Precision", "#Damage, points", "#Saved, \xc2\xb5s",
        "#MMAC", "Advice",   NULL};
    const cJSON *op;
    int i = 0;
    pq_page_table(p, "Table of all operators", head);
    cJSON_ArrayForEach(op, pq_field(doc, "operators"))
    {
        pq_page_f(p, "<tr><td class=\"n\">%d</td><td class=\"name\">", i++);
        pq_page_text(p, pq_field_text(op, "name"));
        pq_page_raw(p, "</td><td>");
        pq_page_text(p, pq_field_text(op, "type"));
        pq_page_raw(p, "</td><td>");
        shape_text(p, pq_field(op, "shape"));
        pq_page_f(p, "</td><td class=\"%s\">", is_kept(op) ? "float" : "int8");
        pq_page_text(p, pq_field_text(op, "precision"));
        pq_page_raw(p, "</td><td class=\"n\">");
        pq_page_number(p, 100 * value_of(op, "damage"), 2, true);
        interval_text(p, op);
        if (is_estimate(op)) pq_page_raw(p, " <small>estimate</small>");
        pq_page_raw(p, "</td>");
        pq_page_cell(p, 1000 * value_of(op, "ms_saved"), 0, true);
        pq_page_cell(p, pq_field_number(op, "macs") / 1e6, 2, false);
        pq_page_raw(p, "<td>");
        pq_page_text(p, pq_field_text(op, "advice"));
        pq_page_raw(p, "</td></tr>\n");
    }
    pq_page_table_end(p);
}

static bool any_has(const cJSON *ops, const char *key)
{
    const cJSON *op;
    cJSON_ArrayForEach(op, ops) if (isfinite(value_of(op, key))) return true;
    return false;
}

static void operator_ticks(pq_page *p, int n, double pitch, double y)
{
    const int step = n > 400 ? 100 : n > 150 ? 20 : n > 40 ? 10 : 5;
    for (int i = 0; i < n; i += step)
        pq_page_f(p, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%d</text>",
                  SENS_LEFT + (i + 0.5) * pitch, y, i);
    pq_page_raw(p, "\n");
}

static void key(pq_page *p, const char *class_name, const char *text)
{
    pq_page_f(p,
              "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\"><rect class=\"%s\" x=\"1\" "
              "y=\"1\" width=\"12\" height=\"12\"/></svg>%s</li>",
              class_name, text);
}

static void legend(pq_page *p, const cJSON *ops)
{
    bool noise = false, estimate = false;
    const cJSON *op;
    cJSON_ArrayForEach(op, ops)
    {
        noise |= pq_field_true(op, "noise");
        estimate |= is_estimate(op);
    }
    pq_page_raw(p, "<ul class=\"legend\">");
    key(p, "b8", "INT8");
    key(p, "bf", "kept in full precision");
    if (noise) key(p, "b8 faint", "inside the noise");
    if (estimate) key(p, "b8 estimate", "estimated from how far the outputs move");
    pq_page_raw(p, "</ul>\n");
}

void pq_page_sensitivity(pq_page *p, const cJSON *doc)
{
    panel all[] = {
        {"damage", "damage when quantized, points", 100, 14, 210},
        {"ms_saved", "saved by INT8, \xc2\xb5s", 1000, 14, 100},
    };
    const cJSON *ops = pq_field_list(doc, "operators");
    const int n = cJSON_GetArraySize(ops);
    double bottom = 0;
    if (!ops || !any_has(ops, "damage")) return;
    for (int i = 0; i < 2; i++) {
        if (!any_has(ops, all[i].key)) continue;
        all[i].y = bottom + 14;
        bottom = all[i].y + all[i].h + 8;
    }
    const double pitch = (double)(SENS_W - SENS_LEFT - SENS_RIGHT) / n;
    bool measured = false;
    const cJSON *op;
    cJSON_ArrayForEach(op, ops) measured |= isfinite(value_of(op, "damage")) && !is_estimate(op);
    pq_page_section(p, "sensitivity", "What each operator costs");
    pq_page_f(p,
              "<p>Operators in network order. Damage is the loss of %s that quantizing an operator "
              "causes%s; orange ones stay in full precision.</p>\n",
              pq_report_metric(doc),
              measured ? ", measured on the engine" : ", estimated from how far the outputs move");
    pq_page_chart(p, SENS_W, (int)bottom + 36, "",
                  "Bar chart of the damage of each operator in network order; the figures are in "
                  "the table");
    for (int i = 0; i < 2; i++)
        if (any_has(ops, all[i].key)) draw_panel(p, ops, &all[i], pitch);
    operator_ticks(p, n, pitch, bottom + 12);
    pq_page_f(p, "<text x=\"%d\" y=\"%.0f\" text-anchor=\"middle\">operator</text>\n",
              (SENS_W + SENS_LEFT) / 2, bottom + 30);
    hit_areas(p, doc, pitch, bottom);
    pq_page_chart_end(p, NULL);
    legend(p, ops);
    sensitivity_table(p, doc);
    pq_page_raw(p, "</section>\n");
}
