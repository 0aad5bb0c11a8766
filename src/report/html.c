/* The page: head, verdict, the table of precisions, then the sections in order. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "report/charts.h"

static void begin(pq_page *p, const char *title)
{
    pq_page_raw(p, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
                   "name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta "
                   "name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" "
                   "href=\"data:,\">\n<title>");
    pq_page_text(p, title);
    pq_page_raw(p, "</title>\n<style>\n");
    pq_page_raw(p, pq_report__style);
    pq_page_raw(p, "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the "
                   "results</a>\n");
}

static void end(pq_page *p)
{
    pq_page_f(p,
              "</main>\n<footer>Made by pquant %s. Everything on this page is inside this "
              "file.</footer>\n<script>\n",
              pq_version());
    pq_page_raw(p, pq_report__script);
    pq_page_raw(p, "</script>\n</body>\n</html>\n");
}

static const cJSON *row_called(const cJSON *doc, const char *name)
{
    return pq_field_find(pq_field(doc, "precisions"), "name", name);
}

/* A change of AP in points with its interval: the loss turned round. */
static void change(pq_page *p, const cJSON *row, int decimals, const char *metric)
{
    const double low = pq_field_number(row, "drop_low"), high = pq_field_number(row, "drop_high");
    pq_page_number(p, -100 * pq_field_number(row, "drop"), decimals, true);
    pq_page_f(p, "%s", metric);
    if (!isfinite(low) || !isfinite(high)) return;
    pq_page_raw(p, " <span class=\"ci\">[");
    pq_page_number(p, -100 * high, decimals, true);
    pq_page_raw(p, ", ");
    pq_page_number(p, -100 * low, decimals, true);
    pq_page_raw(p, "]</span>");
}

/* The run's own words where something is to be said beside the figures. */
static void verdict(pq_page *p, const cJSON *doc)
{
    const cJSON *v = pq_field(doc, "verdict"), *row = row_called(doc, "partial");
    const double n = pq_field_number(v, "operators"), status = pq_field_number(v, "status");
    const double speedup = pq_field_number(row, "speedup");
    if (status == 0 && row && n > 0 && isfinite(speedup)) {
        pq_page_f(p, "INT8 in %.0f of %.0f operators: ", pq_field_number(v, "int8"), n);
        if (speedup >= 1)
            pq_page_f(p, "%.2f\xc3\x97 faster, ", speedup);
        else
            pq_page_f(p, "%.2f\xc3\x97 slower, ", 1 / speedup);
        pq_page_raw(p, "<span>");
        change(p, row, 1, strcmp(pq_report_metric(doc), "mAP") == 0 ? "&nbsp;mAP" : "&nbsp;points");
        pq_page_raw(p, "</span>");
    } else {
        const char *text = pq_field_text(v, "text");
        const char first[2] = {text && *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A')
                                                                    : 0};
        pq_page_text(p, first);
        pq_page_text(p, text && *first ? text + 1 : text);
    }
}

static void subject(pq_page *p, const cJSON *run)
{
    const cJSON *engine = pq_field(run, "engine"), *machine = pq_field(run, "machine");
    const cJSON *images = pq_field_list(run, "images");
    const char *model = pq_field_text(run, "model"), *family = pq_field_text(run, "family");
    const char *base = model ? pq_path_base(model) : NULL;
    pq_page_raw(p, "<p class=\"sub\">");
    pq_page_text(p, family);
    if (base) {
        pq_page_raw(p, family ? ", <span class=\"mono\">" : "<span class=\"mono\">");
        pq_page_text(p, base);
        pq_page_raw(p, "</span>");
    }
    if (pq_field_text(engine, "name")) {
        pq_page_raw(p, ", on ");
        pq_page_text(p, pq_field_text(engine, "name"));
        pq_page_raw(p, " (");
        pq_page_text(p, pq_field_text(engine, "version"));
        pq_page_raw(p, ")");
    }
    if (pq_field_text(machine, "device")) {
        pq_page_raw(p, ", ");
        pq_page_text(p, pq_field_text(machine, "device"));
        const double threads = pq_field_number(machine, "threads");
        if (isfinite(threads)) pq_page_f(p, ", %.0f thread%s", threads, threads == 1 ? "" : "s");
    }
    if (images) pq_page_f(p, "; figures on %d images", cJSON_GetArraySize(images));
    pq_page_raw(p, "</p>\n");
}

static void tile(pq_page *p, const char *name) { pq_page_f(p, "<div><dt>%s</dt><dd>", name); }

static void tiles(pq_page *p, const cJSON *doc)
{
    const cJSON *row = row_called(doc, "partial"), *base = row_called(doc, "fp32");
    const cJSON *v = pq_field(doc, "verdict");
    if (!row || !base) return;
    pq_page_raw(p, "<dl class=\"tiles\">");
    tile(p, "Speed-up");
    pq_page_number(p, pq_field_number(row, "speedup"), 2, false);
    pq_page_raw(p, "\xc3\x97<small>over full precision</small></dd></div>");
    tile(p, "Latency");
    pq_page_number(p, pq_field_number(row, "ms"), 2, false);
    pq_page_raw(p, " ms<small>from ");
    pq_page_number(p, pq_field_number(base, "ms"), 2, false);
    pq_page_raw(p, " ms</small></dd></div>");
    tile(p, strcmp(pq_report_metric(doc), "mAP") == 0 ? "mAP" : "Signal");
    pq_page_number(p, 100 * pq_field_number(row, "AP"), 1, false);
    pq_page_raw(p, "<small>from ");
    pq_page_number(p, 100 * pq_field_number(base, "AP"), 1, false);
    pq_page_raw(p, "</small><small>");
    change(p, row, 2, "&nbsp;points");
    pq_page_raw(p, "</small></dd></div>");
    tile(p, "Operators in INT8");
    if (pq_field_number(v, "operators") > 0)
        pq_page_f(p, "%.0f<small>of %.0f</small>", pq_field_number(v, "int8"),
                  pq_field_number(v, "operators"));
    pq_page_raw(p, "</dd></div></dl>\n");
}

static void precisions(pq_page *p, const cJSON *doc)
{
    const cJSON *row;
    const bool ap = strcmp(pq_report_metric(doc), "mAP") == 0;
    pq_page_section(p, "precisions", "Precisions compared");
    pq_page_f(p,
              "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Precisions "
              "compared\"><table><thead><tr><th scope=\"col\"></th><th scope=\"col\" "
              "class=\"n\">%s</th>%s<th scope=\"col\" class=\"n\">Change, points</th><th "
              "scope=\"col\" class=\"n\">Latency, ms</th><th scope=\"col\" "
              "class=\"n\">Speed-up</th><th scope=\"col\" class=\"n\">MACs in INT8</th><th "
              "scope=\"col\" class=\"n\">Kept in float</th></tr></thead><tbody>\n",
              ap ? "mAP" : "Signal, %", ap ? "<th scope=\"col\" class=\"n\">AP50</th>" : "");
    cJSON_ArrayForEach(row, pq_field(doc, "precisions"))
    {
        const char *name = pq_field_text(row, "name");
        const bool base = name && strcmp(name, "fp32") == 0;
        const double share = pq_field_number(row, "int8_mac_share");
        pq_page_f(p, "<tr%s><th scope=\"row\">",
                  name && strcmp(name, "partial") == 0 ? " class=\"chosen\"" : "");
        pq_page_text(p, pq_report_row_title(name));
        pq_page_raw(p, "</th>");
        pq_page_cell(p, 100 * pq_field_number(row, "AP"), 2, false);
        if (ap) pq_page_cell(p, 100 * pq_field_number(pq_field(row, "figures"), "AP50"), 2, false);
        pq_page_raw(p, "<td class=\"n\">");
        if (!base) change(p, row, 2, "");
        pq_page_raw(p, "</td>");
        pq_page_cell(p, pq_field_number(row, "ms"), 3, false);
        pq_page_raw(p, "<td class=\"n\">");
        pq_page_number(p, pq_field_number(row, "speedup"), 2, false);
        pq_page_raw(p, "\xc3\x97</td><td class=\"n\">");
        pq_page_number(p, 100 * share, 1, false);
        pq_page_raw(p, isfinite(share) ? "&nbsp;%</td>" : "</td>");
        pq_page_cell(p, pq_field_number(row, "kept"), 0, false);
        pq_page_raw(p, "</tr>\n");
    }
    pq_page_raw(p, "</tbody></table></div>\n<p class=\"note\">");
    if (isfinite(pq_field_number(pq_field(doc, "run"), "max_drop")))
        pq_page_f(p, "Budget: at most %g points lost. ",
                  pq_field_number(pq_field(doc, "run"), "max_drop"));
    if (isfinite(pq_field_number(pq_field(doc, "run"), "max_latency_ms")))
        pq_page_f(p, "Budget: at most %g ms. ",
                  pq_field_number(pq_field(doc, "run"), "max_latency_ms"));
    pq_page_raw(p, "Intervals are 95&nbsp;% of a paired bootstrap over the images; latencies are "
                   "medians of runs that took turns.</p></section>\n");
}

static void missing(pq_page *p, const cJSON *doc)
{
    const cJSON *v, *list = pq_field_list(doc, "missing");
    if (!list) return;
    pq_page_section(p, "missing", "What is not on this page");
    pq_page_raw(p, "<ul>");
    cJSON_ArrayForEach(v, list)
    {
        pq_page_raw(p, "<li>");
        pq_page_text(p, pq_field_text(v, "what"));
        pq_page_raw(p, ": ");
        pq_page_text(p, pq_field_text(v, "why"));
        pq_page_raw(p, "</li>\n");
    }
    pq_page_raw(p, "</ul></section>\n");
}

/* Links to the sections that came out, found by their marks in the text after `from`. */
static void contents(pq_page *nav, const pq_page *body)
{
    static const char open[] = "<section id=\"", heading[] = "<h2 id=\"";
    const char *s = body->text;
    pq_page_raw(nav, "<nav aria-label=\"Sections\"><ul>");
    while (s && (s = strstr(s, open)) != NULL) {
        const char *id = s + sizeof open - 1, *id_end = strchr(id, '"');
        const char *h = id_end ? strstr(id_end, heading) : NULL, *text = h ? strchr(h, '>') : NULL;
        const char *text_end = text ? strstr(text, "</h2>") : NULL;
        if (!text_end) break;
        pq_page_raw(nav, "<li><a href=\"#");
        pq_page_bytes(nav, id, (size_t)(id_end - id));
        pq_page_raw(nav, "\">");
        pq_page_bytes(nav, text + 1, (size_t)(text_end - text - 1));
        pq_page_raw(nav, "</a></li>");
        s = text_end;
    }
    pq_page_raw(nav, "</ul></nav>\n");
}

/* What status 3 means. */
static const char *shortfall(const cJSON *verdict)
{
    if (pq_field_number(verdict, "int8") > 0) return "not within the budget";
    return cJSON_IsTrue(pq_field(verdict, "time_ran_out")) ? "time ran out" : "not worth it";
}

static void run_head(pq_page *p, const cJSON *doc)
{
    const double status = pq_field_number(pq_field(doc, "verdict"), "status");
    pq_page_raw(p, "<header>\n<p class=\"over\">pquant report");
    if (status == 0)
        pq_page_raw(p, "<span class=\"badge good\">within the budget</span>");
    else if (isfinite(status))
        pq_page_f(p, "<span class=\"badge warn\">%s</span>", shortfall(pq_field(doc, "verdict")));
    pq_page_raw(p, "</p>\n<h1>");
    verdict(p, doc);
    pq_page_raw(p, "</h1>\n");
    subject(p, pq_field(doc, "run"));
    tiles(p, doc);
}

static void run_body(pq_page *p, const pq_report *r)
{
    precisions(p, r->doc);
    pq_page_front(p, r->doc);
    pq_page_sensitivity(p, r->doc);
    pq_page_map(p, r->doc);
    pq_page_accuracy(p, r->doc);
    pq_page_shift(p, r->doc);
    pq_page_pictures(p, r);
    pq_page_ranges(p, r->doc);
    pq_page_corrections(p, r->doc);
    pq_page_audit(p, r->doc);
    pq_page_repeat(p, r->doc);
    missing(p, r->doc);
}

static void title_of(pq_page *p, const cJSON *doc)
{
    const char *model = pq_field_text(pq_field(doc, "run"), "model");
    pq_page_raw(p, model ? pq_path_base(model) : "run");
    pq_page_raw(p, ": ");
    const char *text = pq_field_text(pq_field(doc, "verdict"), "text");
    pq_page_raw(p, text ? text : "pquant report");
}

pq_status pq_report_save_html(pq_ctx *ctx, const pq_report *r, const char *path)
{
    pq_page page = {.ctx = ctx}, body = {.ctx = ctx}, title = {.ctx = ctx};
    pq_status st;
    if (r->comparison) {
        pq_page_raw(&title, "Two runs compared");
        pq_page_comparison(&body, r->doc);
    } else {
        title_of(&title, r->doc);
        run_body(&body, r);
    }
    PQ_TRY(title.st);
    PQ_TRY(body.st);
    begin(&page, title.text);
    if (r->comparison)
        pq_page_raw(&page,
                    "<header>\n<p class=\"over\">pquant comparison</p>\n<h1>Two runs side by "
                    "side</h1>\n");
    else
        run_head(&page, r->doc);
    contents(&page, &body);
    pq_page_raw(&page, "</header>\n<main id=\"main\">\n");
    pq_page_bytes(&page, body.text, body.n);
    end(&page);
    PQ_TRY(page.st);
    st = pq_file_write(ctx, path, page.text, page.n);
out:
    pq_free(page.text);
    pq_free(body.text);
    pq_free(title.text);
    return st;
}
