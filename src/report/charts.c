/* What all charts have: axes, frames, the tables behind them. */
#include "report/charts.h"

pq_axis pq_axis_make(double lo, double hi, double from, double to, int ticks)
{
    pq_axis a = {.from = from, .to = to};
    if (!(hi - lo > 1e-12)) hi = lo + 1e-3 + fabs(lo) * 0.1;
    const double rough = (hi - lo) / ticks, ten = pow(10, floor(log10(rough)));
    const double lead = rough / ten;
    a.step = ten * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    a.lo = lo != 0 ? lo - 0.04 * (hi - lo) : 0;
    a.hi = hi != 0 ? hi + 0.04 * (hi - lo) : 0;
    a.decimals = a.step >= 1 ? 0 : (int)fmin(6, ceil(-log10(a.step) - 1e-9));
    return a;
}

double pq_axis_at(const pq_axis *a, double v)
{
    return a->from + (v - a->lo) / (a->hi - a->lo) * (a->to - a->from);
}

void pq_page_section(pq_page *p, const char *id, const char *title)
{
    pq_page_f(p, "<section id=\"%s\" aria-labelledby=\"h-%s\"><h2 id=\"h-%s\">%s</h2>\n", id, id,
              id, title);
}

void pq_page_chart(pq_page *p, int w, int h, const char *class_name, const char *label)
{
    pq_page_f(p,
              "<figure class=\"chart\"><div class=\"scroll\"><svg class=\"%s\" viewBox=\"0 0 %d "
              "%d\" role=\"img\" data-marks aria-label=\"",
              class_name, w, h);
    pq_page_text(p, label);
    pq_page_raw(p, "\">\n");
}

void pq_page_chart_end(pq_page *p, const char *caption)
{
    pq_page_raw(p, "</svg></div>");
    if (caption) pq_page_f(p, "<figcaption>%s</figcaption>", caption);
    pq_page_raw(p, "</figure>\n");
}

void pq_page_table(pq_page *p, const char *summary, const char *const *head)
{
    pq_page_raw(p, "<details><summary>");
    pq_page_text(p, summary);
    pq_page_raw(p, "</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
    pq_page_text(p, summary);
    pq_page_raw(p, "\"><table><thead><tr>");
    for (; *head; head++)
        pq_page_f(p, "<th scope=\"col\"%s>%s</th>", **head == '#' ? " class=\"n\"" : "",
                  **head == '#' ? *head + 1 : *head);
    pq_page_raw(p, "</tr></thead><tbody>\n");
}

void pq_page_table_end(pq_page *p) { pq_page_raw(p, "</tbody></table></div></details>\n"); }

void pq_page_cell(pq_page *p, double v, int decimals, bool sign)
{
    pq_page_raw(p, "<td class=\"n\">");
    pq_page_number(p, v, decimals, sign);
    pq_page_raw(p, "</td>");
}

/* Horizontal grid lines with their numbers, left of x0. */
/* Multiples of the step inside the axis: the first one, and how many. */
static double ticks(const pq_axis *a, int *n)
{
    const double first = ceil(a->lo / a->step - 1e-9) * a->step;
    *n = (int)fmin(50, floor((a->hi - first) / a->step + 1e-9) + 1);
    return first;
}

void pq_page_y_grid(pq_page *p, const pq_axis *y, double x0, double x1, bool sign)
{
    int n;
    const double first = ticks(y, &n);
    for (int i = 0; i < n; i++) {
        const double v = first + i * y->step, at = pq_axis_at(y, v);
        pq_page_f(p, "<path class=\"%s\" d=\"M%.1f %.1fH%.1f\"/>",
                  fabs(v) < y->step / 2 ? "axis" : "grid", x0, at, x1);
        pq_page_f(p, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", x0 - 6, at + 4);
        pq_page_number(p, v, y->decimals, sign && fabs(v) > y->step / 2);
        pq_page_raw(p, "</text>\n");
    }
}

void pq_page_x_grid(pq_page *p, const pq_axis *x, double y0, double y1)
{
    int n;
    const double first = ticks(x, &n);
    for (int i = 0; i < n; i++) {
        const double v = first + i * x->step, at = pq_axis_at(x, v);
        pq_page_f(p, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>", at, y0, y1);
        pq_page_f(p, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", at, y1 + 16);
        pq_page_number(p, v, x->decimals, false);
        pq_page_raw(p, "</text>\n");
    }
}

void pq_widen(double *lo, double *hi, double v)
{
    if (!isfinite(v)) return;
    *lo = fmin(*lo, v);
    *hi = fmax(*hi, v);
}
