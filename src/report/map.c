/* The network as a map: operators in order, a column each, wrapped into rows. A tensor keeps a lane
 * from where it is made to its last reader, as branches do in the graph of a version history, so
 * skip connections of any length are lines and nothing crosses an operator. */
#include <string.h>

#include "base/mem.h"
#include "report/charts.h"

enum { COLUMNS = 42, W = 980, PITCH = 22, LEFT = 26, LANE = 19, ROW_GAP = 30, MOST_NODES = 3000 };

typedef struct stop {
    const cJSON *node;
    int last; /* reader; -1: none */
    int lane;
} stop;

typedef struct map {
    stop *s;
    int n;
    double *row_y; /* top of each row, and the end of the last */
    int n_rows;
} map;

/* A member that must be the index of an earlier node. */
static int producer(const cJSON *v, int before)
{
    const double d = cJSON_IsNumber(v) ? v->valuedouble : -1;
    return d >= 0 && d < before ? (int)d : -1;
}

static void find_last_readers(map *m)
{
    const cJSON *in;
    for (int i = 0; i < m->n; i++) m->s[i].last = -1;
    for (int i = 0; i < m->n; i++) cJSON_ArrayForEach(in, pq_field(m->s[i].node, "inputs"))
        {
            const int from = producer(in, i);
            if (from >= 0) m->s[from].last = i;
        }
}

/* busy[l]: the node whose tensor lies in lane l, -1: free. A node goes on in the lane of the first
 * input that ends with it, else takes the first free one. */
static void place(map *m, int *busy)
{
    const cJSON *in;
    for (int l = 0; l <= m->n; l++) busy[l] = -1;
    for (int i = 0; i < m->n; i++) {
        int lane = -1;
        cJSON_ArrayForEach(in, pq_field(m->s[i].node, "inputs"))
        {
            const int from = producer(in, i);
            if (from < 0 || m->s[from].last != i || busy[m->s[from].lane] != from) continue;
            busy[m->s[from].lane] = -1;
            if (lane < 0) lane = m->s[from].lane;
        }
        for (int l = 0; lane < 0; l++)
            if (busy[l] < 0) lane = l;
        m->s[i].lane = lane;
        if (m->s[i].last > i) busy[lane] = i;
    }
}

static pq_status lay_out(pq_ctx *ctx, map *m, const cJSON *nodes)
{
    const cJSON *v;
    int *busy = NULL, i = 0;
    pq_status st;
    m->n = cJSON_GetArraySize(nodes);
    m->n_rows = (m->n + COLUMNS - 1) / COLUMNS;
    PQ_TRY(pq_alloc(ctx, &m->s, (size_t)m->n, sizeof *m->s));
    PQ_TRY(pq_alloc(ctx, &busy, (size_t)m->n + 1, sizeof *busy));
    PQ_TRY(pq_alloc(ctx, &m->row_y, (size_t)m->n_rows + 1, sizeof *m->row_y));
    cJSON_ArrayForEach(v, nodes) m->s[i++].node = v;
    find_last_readers(m);
    place(m, busy);
    m->row_y[0] = 24;
    for (int r = 0; r < m->n_rows; r++) {
        int lanes = 0; /* in this row: of its nodes, and of tensors that pass through */
        for (i = 0; i < m->n; i++)
            if (i / COLUMNS <= r && (i / COLUMNS == r || m->s[i].last / COLUMNS >= r) &&
                m->s[i].lane > lanes)
                lanes = m->s[i].lane;
        m->row_y[r + 1] = m->row_y[r] + lanes * LANE + LANE + ROW_GAP;
    }
out:
    pq_free(busy);
    return st;
}

static double x_of(int i) { return LEFT + (i % COLUMNS + 0.5) * PITCH; }
static double y_of(const map *m, int lane, int row) { return m->row_y[row] + lane * LANE; }

/* A tensor's way: along its lane through the rows, and from there to each reader. */
static void draw_tensor(pq_page *p, const map *m, int i)
{
    const stop *s = &m->s[i];
    const cJSON *in;
    if (s->last < 0) return;
    pq_page_f(p, "<path class=\"%s\" d=\"", pq_field_true(s->node, "int8") ? "e8" : "ef");
    const int first = i / COLUMNS, end = s->last / COLUMNS;
    const double stop_x = x_of(s->last) - (m->s[s->last].lane == s->lane ? 0 : PITCH * 0.8);
    for (int r = first; r <= end; r++)
        if (r < end || r > first || stop_x > x_of(i))
            pq_page_f(p, "M%.1f %.1fH%.1f", r == first ? x_of(i) : 6, y_of(m, s->lane, r),
                      r == end ? stop_x : W - 6.0);
    for (int k = i + 1; k <= s->last; k++) {
        bool reads = false;
        cJSON_ArrayForEach(in, pq_field(m->s[k].node, "inputs")) reads |= producer(in, k) == i;
        if (!reads || m->s[k].lane == s->lane) continue;
        const double y0 = y_of(m, s->lane, k / COLUMNS), y1 = y_of(m, m->s[k].lane, k / COLUMNS);
        const double x0 = x_of(k) - PITCH * 0.8, x1 = x_of(k);
        pq_page_f(p, "M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", x0, y0, x0 + PITCH * 0.45, y0,
                  x1 - PITCH * 0.45, y1, x1, y1);
    }
    pq_page_raw(p, "\"/>\n");
}

static const char *precision_of(const cJSON *node)
{
    const char *p = pq_field_text(node, "precision");
    return p ? p : pq_field_true(node, "int8") ? "int8" : "full precision";
}

static void draw_node(pq_page *p, const map *m, int i)
{
    const cJSON *node = m->s[i].node;
    const double index = pq_field_number(node, "index"), x = x_of(i);
    const double y = y_of(m, m->s[i].lane, i / COLUMNS);
    const bool int8 = pq_field_true(node, "int8"), converts = pq_field_list(node, "converts");
    if (isfinite(index)) {
        const char *kind = strcmp(precision_of(node), "int8") == 0 ? "b8" : "bf";
        pq_page_f(p,
                  "<rect data-mark class=\"node %s\" x=\"%.1f\" y=\"%.1f\" width=\"14\" "
                  "height=\"14\" rx=\"3\">",
                  kind, x - 7, y - 7);
    } else
        pq_page_f(p, "<circle data-mark class=\"node %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\">",
                  int8 ? "n8o" : "nfo", x, y);
    pq_page_raw(p, "<title>");
    if (isfinite(index)) pq_page_f(p, "%.0f: ", index);
    pq_page_text(p, pq_field_text(node, "name"));
    pq_page_raw(p, "\n");
    pq_page_text(p, pq_field_text(node, "type"));
    pq_page_raw(p, ", ");
    pq_page_text(p, precision_of(node));
    if (converts) pq_page_raw(p, int8 ? "\nits input is quantized" : "\nits input is dequantized");
    pq_page_f(p, "</title></%s>", isfinite(index) ? "rect" : "circle");
    if (converts)
        pq_page_f(p, "<path class=\"conv\" d=\"M%.1f %.1fl4.5 4.5l-4.5 4.5l-4.5 -4.5z\"/>",
                  x - PITCH / 2.0, y - 4.5);
    if (isfinite(index) && fmod(index, 10) == 0)
        pq_page_f(p, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.0f</text>", x, y - 10,
                  index);
    pq_page_raw(p, "\n");
}

static void legend(pq_page *p)
{
    static const char *const item[][2] = {
        {"<rect class=\"b8\" width=\"14\" height=\"14\" rx=\"3\"/>", "operator in INT8"},
        {"<rect class=\"bf\" width=\"14\" height=\"14\" rx=\"3\"/>", "operator in full precision"},
        {"<circle class=\"n8o\" cx=\"7\" cy=\"7\" r=\"4.5\"/>", "other operator on INT8 numbers"},
        {"<circle class=\"nfo\" cx=\"7\" cy=\"7\" r=\"4.5\"/>", "other operator on floats"},
        {"<path class=\"conv\" d=\"M7 2l5 5l-5 5l-5 -5z\"/>", "conversion"}};
    pq_page_raw(p, "<ul class=\"legend\">");
    for (size_t i = 0; i < sizeof item / sizeof *item; i++)
        pq_page_f(p, "<li><svg viewBox=\"0 0 14 14\" aria-hidden=\"true\">%s</svg>%s</li>",
                  item[i][0], item[i][1]);
    pq_page_raw(p, "</ul>\n");
}

static void table(pq_page *p, const cJSON *nodes)
{
    static const char *const head[] = {"Operator", "Type", "Precision", "Conversion", NULL};
    const cJSON *v;
    pq_page_table(p, "Table of the network", head);
    cJSON_ArrayForEach(v, nodes)
    {
        pq_page_raw(p, "<tr><td class=\"name\">");
        pq_page_text(p, pq_field_text(v, "name"));
        pq_page_raw(p, "</td><td>");
        pq_page_text(p, pq_field_text(v, "type"));
        pq_page_f(p, "</td><td class=\"%s\">", pq_field_true(v, "int8") ? "int8" : "float");
        pq_page_text(p, precision_of(v));
        pq_page_f(p, "</td><td>%s</td></tr>\n",
                  !pq_field_list(v, "converts") ? ""
                  : pq_field_true(v, "int8")    ? "input is quantized"
                                                : "input is dequantized");
    }
    pq_page_table_end(p);
}

void pq_page_map(pq_page *p, const cJSON *doc)
{
    const cJSON *nodes = pq_field_list(pq_field(doc, "map"), "nodes");
    const double changes = pq_field_number(pq_field(doc, "map"), "conversions");
    map m = {0};
    if (!nodes) return;
    pq_page_section(p, "map", "The network");
    pq_page_f(p,
              "<p>Operators in order, from left to right and row by row; lines are tensors, in the "
              "colour of what they hold. Precision changes on %.0f of them%s.</p>\n",
              changes,
              changes > 0 && pq_field(doc, "audit")
                  ? ", in part inside the kernels on both sides; the <a "
                    "href=\"#audit\">audit</a> counts the conversions that run "
                    "by themselves"
                  : "");
    if (p->st == PQ_OK && cJSON_GetArraySize(nodes) <= MOST_NODES) {
        p->st = lay_out(p->ctx, &m, nodes);
        if (p->st == PQ_OK) {
            pq_page_chart(p, W, (int)m.row_y[m.n_rows] - ROW_GAP + 4, "",
                          "Map of the network's operators and their precisions; the table has the "
                          "same");
            for (int i = 0; i < m.n; i++) draw_tensor(p, &m, i);
            for (int i = 0; i < m.n; i++) draw_node(p, &m, i);
            pq_page_chart_end(p, NULL);
            legend(p);
        }
    }
    table(p, nodes);
    pq_page_raw(p, "</section>\n");
    pq_free(m.s);
    pq_free(m.row_y);
}
