/* Reports from folders made here: what must be in them, hostile and broken files, two of them
 * compared. With PQ_REPORT_PAGES set, the pages stay in that folder for the browser. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pquant/report.h>

#include "base/file.h"
#include "base/mem.h"
#include "report/fields.h"
#include "report/page.h"
#include "support/tiny.h"

static struct {
    pq_ctx *ctx;
    char dir[64];
    pq_graph *graph;
    pq_plan *plan; /* two operators in float */
} w;

enum { N_PICTURES = 6 };
static const char hostile[] = "</title><script>alert(\"1\")</script>'&\xff\xc0\xaf\xe2\x80\xae%n";

static const char *at(const char *name)
{
    static char path[4][192];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", w.dir, name);
    return path[next];
}

static char *slurp(const char *path)
{
    pq_buf *b;
    PQ_CHECK(w.ctx, pq_file_map(w.ctx, &b, path));
    const size_t n = pq_buf_bytes(b);
    char *text = malloc(n + 1);
    assert_non_null(text);
    memcpy(text, pq_buf_data(b), n);
    text[n] = 0;
    pq_buf_unref(b);
    return text;
}

static void write_text(const char *name, const char *text)
{
    PQ_CHECK(w.ctx, pq_file_write(w.ctx, at(name), text, strlen(text)));
}

static void write_json(const char *name, cJSON *doc)
{
    PQ_CHECK(w.ctx, pq_json_save(w.ctx, doc, at(name)));
    cJSON_Delete(doc);
}

static int files_in(const char *folder)
{
    char **name;
    size_t n;
    PQ_CHECK(w.ctx, pq_dir_list(w.ctx, &name, &n, folder));
    for (size_t i = 0; i < n; i++) pq_free(name[i]);
    pq_free(name);
    return (int)n;
}

/* ---- folders of runs ---- */

static void add_row(cJSON *list, const char *name, double ap, double ms)
{
    cJSON *o = cJSON_CreateObject(), *f;
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "name", name);
    f = cJSON_AddObjectToObject(o, "figures");
    cJSON_AddNumberToObject(f, "AP", ap);
    cJSON_AddNumberToObject(f, "AP50", ap + 0.1);
    cJSON_AddNumberToObject(o, "median_ms", ms);
    cJSON_AddNumberToObject(o, "int8_mac_share", 0.5);
    cJSON_AddNumberToObject(o, "kept", 2);
}

static cJSON *run_head(const char *verdict, int status)
{
    cJSON *doc = cJSON_CreateObject(), *o;
    cJSON_AddStringToObject(doc, "command", "run");
    cJSON_AddStringToObject(doc, "verdict", verdict);
    cJSON_AddNumberToObject(doc, "status", status);
    cJSON_AddStringToObject(doc, "model", "tiny.onnx");
    cJSON_AddStringToObject(doc, "family", "YOLOX");
    cJSON_AddStringToObject(doc, "scheme", "u8");
    cJSON_AddNumberToObject(doc, "max_drop", 0.3);
    o = cJSON_AddObjectToObject(doc, "engine");
    cJSON_AddStringToObject(o, "name", "ref");
    cJSON_AddStringToObject(o, "version", "1");
    o = cJSON_AddArrayToObject(doc, "results");
    add_row(o, "full precision", 0.4, 10);
    add_row(o, "all-INT8", 0.3, 5);
    add_row(o, "partial", 0.398, 6);
    return doc;
}

/* The run of the tiny detector: operators by the plan's precisions. */
static cJSON *tiny_run(void)
{
    cJSON *doc = run_head("INT8 in most operators: 1.67x faster, -0.20 points of AP", 0);
    cJSON *list = cJSON_AddArrayToObject(doc, "operators");
    cJSON *fixes = cJSON_AddObjectToObject(doc, "corrections"), *move;
    char hash[65];
    pq_graph_hash(w.graph, hash);
    cJSON_AddStringToObject(doc, "graph_hash", hash);
    cJSON_AddNumberToObject(fixes, "checked_images", 32);
    move = cJSON_AddObjectToObject(fixes, "detections_move");
    cJSON_AddNumberToObject(move, "ranges_alone", 0.0912);
    cJSON_AddNumberToObject(move, "with_equalisation", 0.0923);
    cJSON_AddNumberToObject(move, "with_reconstruction", 0.0834);
    cJSON_AddStringToObject(fixes, "dropped", "equalisation");
    for (size_t i = 0; i < w.graph->n_nodes; i++) {
        const pq_node *n = &w.graph->node[i];
        if (n->quant_index < 0) continue;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddNumberToObject(o, "index", n->quant_index);
        cJSON_AddStringToObject(o, "name", n->name);
        cJSON_AddStringToObject(o, "precision", pq_precision_name(w.plan->node[i].precision));
        cJSON_AddNumberToObject(o, "damage", 0.001 * (double)((i * 7) % 5) - 0.001);
        cJSON_AddNumberToObject(o, "ms_saved",
                                w.plan->node[i].precision == PQ_PREC_INT8 ? -0.1 : -0.25);
        cJSON_AddStringToObject(o, "advice",
                                w.plan->node[i].precision == PQ_PREC_INT8
                                    ? "reads the picture. Tried: nothing"
                                    : "no reason seen in its ranges. Tried: range by mse");
    }
    return doc;
}

/* A large run with every member that there may be. */
static cJSON *large_run(int n)
{
    char name[64];
    cJSON *doc = run_head("unused", 0), *list, *o;
    cJSON *p = cJSON_AddArrayToObject(doc, "precisions");
    static const char *const row[3] = {"fp32", "int8", "partial"};
    for (int i = 0; i < 3; i++) {
        o = cJSON_CreateObject();
        cJSON_AddItemToArray(p, o);
        cJSON_AddStringToObject(o, "name", row[i]);
        cJSON_AddNumberToObject(o, "AP", 0.45 - 0.13 * (i == 1) - 0.002 * (i == 2));
        cJSON_AddNumberToObject(o, "ms", i == 0 ? 97 : i == 1 ? 30 : 33);
        cJSON_AddNumberToObject(o, "drop", 0.13 * (i == 1) + 0.002 * (i == 2));
        if (i == 0) continue;
        cJSON_AddNumberToObject(o, "drop_low", 0.12 * (i == 1) - 0.001);
        cJSON_AddNumberToObject(o, "drop_high", 0.14 * (i == 1) + 0.005);
    }
    static const char *const word[] = {"run", "--no-adaround", "--max-drop", "-1", "--json"};
    list = cJSON_AddArrayToObject(doc, "command_line");
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(word[i]));
    list = cJSON_AddArrayToObject(doc, "front");
    for (int i = 0; i < 120; i++) {
        o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddNumberToObject(o, "ms", 30 + i * 0.5);
        cJSON_AddNumberToObject(o, "drop", 0.13 * exp(-i / 4.0));
        cJSON_AddStringToObject(o, "int8", "1101");
        cJSON_AddBoolToObject(o, "predicted", i % 5 != 0);
        cJSON_AddBoolToObject(o, "chosen", i == 10);
    }
    list = cJSON_AddArrayToObject(doc, "operators");
    for (int i = 0; i < n; i++) {
        o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        snprintf(name, sizeof name, "backbone.block_list.%d.block_list.%d.conv1.conv1", i / 8,
                 i % 8);
        cJSON_AddStringToObject(o, "name", name);
        cJSON_AddStringToObject(o, "op", "Conv");
        cJSON_AddStringToObject(o, "shape", "1x64x80x80");
        cJSON_AddNumberToObject(o, "macs", 1e7 + i);
        cJSON_AddStringToObject(o, "precision", i % 17 == 3 ? "fp32" : "int8");
        cJSON_AddStringToObject(o, "kind", i % 3 ? "map" : "proxy");
        cJSON_AddNumberToObject(o, "damage",
                                i == 6        ? 1e6
                                : i % 17 == 3 ? 0.02
                                              : 0.0004 * (i % 7 - 1));
        cJSON_AddNumberToObject(o, "damage_low", -0.001);
        cJSON_AddNumberToObject(o, "damage_high", 0.03);
        cJSON_AddBoolToObject(o, "noise", i % 4 == 1);
        cJSON_AddNumberToObject(o, "ms_saved", 0.01 * (i % 11));
        if (i % 17 == 3) cJSON_AddStringToObject(o, "advice", "try percentile calibration");
    }
    return doc;
}

static cJSON *failed_run(void)
{
    cJSON *doc = run_head("INT8 is not worth it here: the partial plan takes 12 ms, full precision "
                          "10 ms; the outputs are in full precision",
                          3);
    cJSON *list = cJSON_AddArrayToObject(doc, "operators"), *o, *a;
    for (int i = 0; i < 3; i++) {
        o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddStringToObject(o, "name", hostile);
        cJSON_AddStringToObject(o, "precision", "fp32");
        cJSON_AddStringToObject(o, "advice", hostile);
        cJSON_AddNumberToObject(o, "damage", 0.01 * i);
    }
    a = cJSON_AddObjectToObject(doc, "audit");
    cJSON_AddStringToObject(a, "target", hostile);
    cJSON_AddNumberToObject(a, "faults", 1);
    list = cJSON_AddArrayToObject(a, "findings");
    o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "kind", "fault");
    cJSON_AddStringToObject(o, "name", hostile);
    cJSON_AddStringToObject(o, "text", hostile);
    list = cJSON_AddArrayToObject(doc, "command_line");
    cJSON_AddItemToArray(list, cJSON_CreateString("run"));
    cJSON_AddItemToArray(list, cJSON_CreateString("a b'c\"; rm -rf"));
    cJSON_AddItemToArray(list, cJSON_CreateString(hostile));
    o = cJSON_AddObjectToObject(doc, hostile);
    cJSON_AddStringToObject(o, "x", "y");
    o = cJSON_AddObjectToObject(doc, "options");
    cJSON_AddStringToObject(o, hostile, hostile);
    return doc;
}

static void make_folders(void)
{
    static const char *const name[] = {"small", "large", "failed"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        PQ_CHECK(w.ctx, pq_dir_make(w.ctx, at(name[i])));
    write_json("small/run.json", tiny_run());
    write_json("large/run.json", large_run(400));
    write_json("failed/run.json", failed_run());
    write_text("small/sensitivity.jsonl",
               "{\"AP\": 0.5, \"seconds\": 2}\n{\"AP\": 0.4, \"seconds\": 1}\n{\"AP\": 0.");
    write_text("small/ranges.corrections.json",
               "{\"seconds\": [1, 2, 3], \"encodings\": [{\"value\": \"v\", \"error_before\": 0.1, "
               "\"error\": 0.01}], \"operators\": [{\"node\": \"stem\", \"error_before\": 0.01, "
               "\"error\": 0.002}]}");
}

/* Ranges for the inputs of all operators, one of them with outliers. */
static void write_ranges(void)
{
    cJSON *doc = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(doc, "tensors");
    for (size_t i = 0; i < w.graph->n_values; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddStringToObject(o, "name", w.graph->value[i].name);
        cJSON_AddNumberToObject(o, "min", -0.3);
        cJSON_AddNumberToObject(o, "max", 9);
        cJSON_AddNumberToObject(o, "amax", 4);
        cJSON_AddNumberToObject(o, "lo", -0.3);
        cJSON_AddNumberToObject(o, "hi", 3);
        cJSON_AddStringToObject(o, "method", "mse");
    }
    write_json("small/ranges.json", doc);
}

static int set_up(void **state)
{
    const char *keep = getenv("PQ_REPORT_PAGES");
    (void)state;
    if (pq_ctx_new(&w.ctx) != PQ_OK) return -1;
    snprintf(w.dir, sizeof w.dir, "%s", keep ? keep : "/tmp/pquant-report-XXXXXX");
    if (!keep) assert_non_null(mkdtemp(w.dir));
    w.graph = tiny_detector(w.ctx, TINY_YOLOX);
    w.plan = tiny_int8_plan(w.ctx, w.graph, PQ_SCHEME_U8, 2);
    for (size_t i = 0, n = 0; i < w.plan->n_nodes; i++)
        if (w.plan->node[i].quantizable && n++ % 5 == 3) w.plan->node[i].precision = PQ_PREC_FP32;
    tiny_data(w.ctx, w.dir, w.graph, 1, N_PICTURES);
    make_folders();
    write_ranges();
    return 0;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    pq_plan_free(w.plan);
    pq_graph_free(w.graph);
    pq_ctx_free(w.ctx);
    if (getenv("PQ_REPORT_PAGES")) return 0;
    snprintf(command, sizeof command, "rm -rf '%s'", w.dir);
    return system(command); /* NOLINT(bugprone-command-processor): a folder of mkdtemp's */
}

/* ---- reports ---- */

static pq_report *plain(const char *folder)
{
    pq_report *r;
    PQ_CHECK(w.ctx, pq_report_new(w.ctx, &r, at(folder), NULL));
    return r;
}

static char *page_of(const pq_report *r, const char *folder)
{
    char name[64];
    snprintf(name, sizeof name, "%s/report.html", folder);
    PQ_CHECK(w.ctx, pq_report_save_html(w.ctx, r, at(name)));
    return slurp(at(name));
}

/* Ground truth as what full precision finds; the plan loses some, moves the scores of the rest and
 * finds one thing more. */
static void made_up(const pq_coco *coco, pq_detections *before, pq_detections *after)
{
    for (size_t i = 0; i < coco->n_anns; i++) {
        const pq_coco_ann *a = &coco->ann[i];
        pq_detection d = {coco->image[a->image].id,
                          (int32_t)a->cls,
                          0.9 - 0.02 * (double)i,
                          a->x,
                          a->y,
                          a->w,
                          a->h};
        PQ_CHECK(w.ctx, pq_detections_push(w.ctx, before, &d));
        d.score -= 0.05;
        d.x += 1;
        if (i % 6 != 1) PQ_CHECK(w.ctx, pq_detections_push(w.ctx, after, &d));
    }
    const pq_detection more = {coco->image[0].id, 1, 0.8, 1, 1, 6, 6};
    PQ_CHECK(w.ctx, pq_detections_push(w.ctx, after, &more));
}

/* run.json with the figures that these detections have. */
static void run_says(const pq_coco *coco, const pq_detections *before, const pq_detections *after)
{
    const pq_detections *const list[2] = {before, after};
    cJSON *run = tiny_run(), *rows = cJSON_GetObjectItem(run, "results");
    for (int i = 0; i < 2; i++) {
        pq_figures f;
        PQ_CHECK(w.ctx, pq_evaluate(w.ctx, &f, coco, list[i]->at, list[i]->n));
        cJSON *figures = cJSON_GetObjectItem(cJSON_GetArrayItem(rows, 2 * i), "figures");
        cJSON_SetNumberValue(cJSON_GetObjectItem(figures, "AP"), f.v[PQ_FIG_AP]);
    }
    write_json("small/run.json", run);
}

static void full_report(void **state)
{
    pq_coco *coco;
    pq_dataset *images;
    pq_detections before = {0}, after = {0};
    pq_report *r;
    (void)state;
    PQ_CHECK(w.ctx, pq_coco_load(w.ctx, &coco, at("ann.json")));
    PQ_CHECK(w.ctx, pq_dataset_from_coco(w.ctx, &images, coco, at("images"), 0));
    made_up(coco, &before, &after);
    run_says(coco, &before, &after);
    const pq_report_opts o = {.graph = w.graph,
                              .plan = w.plan,
                              .coco = coco,
                              .images = images,
                              .before = &before,
                              .after = &after};
    PQ_CHECK(w.ctx, pq_report_new(w.ctx, &r, at("small"), &o));
    const cJSON *doc = pq_report_json(r), *d = pq_field(doc, "detections"), *v;

    assert_int_equal(cJSON_GetArraySize(pq_field(pq_field(doc, "map"), "nodes")), w.graph->n_nodes);
    assert_true(pq_field_number(pq_field(doc, "map"), "conversions") > 0);
    assert_int_equal((int)pq_field_number(d, "before"),
                     (int)(pq_field_number(d, "kept") + pq_field_number(d, "lost")));
    assert_int_equal((int)pq_field_number(d, "lost"), (int)(coco->n_anns + 4) / 6);
    assert_int_equal((int)pq_field_number(d, "gained"), 1);
    assert_true(fabs(pq_field_number(d, "shift_mean") + 0.05) < 1e-9);
    v = pq_field_find(pq_field(doc, "sizes"), "name", "all sizes");
    assert_true(pq_field_number(v, "before") > 0.999); /* the truth itself */
    assert_true(pq_field_number(v, "after") < pq_field_number(v, "before"));
    v = pq_field_find(pq_field(doc, "precisions"), "name", "partial");
    assert_true(pq_field_number(v, "drop_low") < pq_field_number(v, "drop_high"));
    v = pq_field_list(doc, "ranges");
    assert_non_null(v);
    bool told = false; /* the reason that the advice has, where it has one */
    cJSON_ArrayForEach(v, v)
    {
        const bool int8 = strcmp(pq_field_text(v, "precision"), "int8") == 0;
        assert_non_null(
            strstr(pq_field_text(v, "reason"), int8 ? "reads the picture" : "3.0 times"));
        assert_string_equal(pq_field_text(v, "advice"),
                            int8 ? "Tried: nothing" : "Tried: range by mse");
        told = told || int8;
    }
    assert_true(told);
    assert_int_equal((int)pq_field_number(pq_field(doc, "run"), "measurements"), 2);
    assert_true(cJSON_GetArraySize(pq_field(doc, "pictures")) > 0);
    assert_null(pq_field_list(doc, "missing"));

    char *html = page_of(r, "small");
    static const char *const id[] = {"precisions",  "front",      "sensitivity", "map",
                                     "accuracy",    "detections", "pictures",    "ranges",
                                     "corrections", "repeat"};
    for (size_t i = 0; i < sizeof id / sizeof *id; i++) {
        char text[64];
        snprintf(text, sizeof text, "<section id=\"%s\"", id[i]);
        if (!strstr(html, text)) fail_msg("no section %s", id[i]);
    }
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_non_null(strstr(html, "INT8 would save no time here (\xe2\x88\x92"
                                 "250"));
    assert_null(strstr(html, "INT8 would save no time here (\xe2\x88\x92"
                             "100"));
    assert_non_null(strstr(html, "+ equalisation (did not help, left out)</th><td "
                                 "class=\"n\">9.23<"));
    assert_non_null(strstr(html, "+ reconstruction</th><td class=\"n\">8.34<"));
    free(html);
    pq_report_free(r);
    pq_detections_clear(&before);
    pq_detections_clear(&after);
    pq_dataset_free(images);
    pq_coco_free(coco);
}

/* No coordinate and no figure that is not a number. */
static void check_numbers(const char *html)
{
    static const char *const wrong[] = {"\"nan", "nan\"", " nan ", "\"inf", "-nan",
                                        "Mnan",  "Hnan",  "Vnan",  ">nan<", ">inf<"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (strstr(html, wrong[i])) fail_msg("'%s' in the page", wrong[i]);
}

static void large_report(void **state)
{
    (void)state;
    pq_report *r = plain("large");
    const cJSON *doc = pq_report_json(r);
    const cJSON *row = pq_field_find(pq_field(doc, "precisions"), "name", "int8");
    assert_true(fabs(pq_field_number(row, "drop_high") - 0.145) < 1e-12);
    assert_true(fabs(pq_field_number(row, "speedup") - 97.0 / 30) < 1e-12);
    char *html = page_of(r, "large");
    check_numbers(html);
    assert_non_null(strstr(html, "Chosen point"));
    assert_non_null(strstr(html, "estimated damage"));
    assert_null(strstr(html, "1000000"));
    assert_non_null(strstr(html, "INT8 in 376 of 400 operators: 2.94"));
    assert_non_null(strstr(html, "try percentile calibration"));
    assert_null(strstr(html, "<section id=\"map\"")); /* no model was given */
    assert_true(strlen(html) < 1u << 20);
    free(html);
    pq_report_free(r);
}

static void hostile_report(void **state)
{
    (void)state;
    pq_report *r = plain("failed");
    char *html = page_of(r, "failed");
    check_numbers(html);
    assert_null(strstr(html, "<script>alert"));
    assert_null(strstr(html, "\xe2\x80\xae"));
    assert_null(strstr(html, "\xff"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(&quot;1&quot;)"));
    assert_non_null(strstr(html, "INT8 is not worth it here"));
    assert_non_null(strstr(html, "&#39;a b&#39;\\&#39;&#39;c&quot;; rm -rf&#39;"));
    assert_non_null(strstr(html, "Not everywhere."));
    free(html);
    PQ_CHECK(w.ctx, pq_report_save_json(w.ctx, r, at("failed/report.json")));
    char *json = slurp(at("failed/report.json"));
    for (const char *s = json; *s; s++)
        if (!pq_utf8_length(s) && ((unsigned char)*s & 0xc0) != 0x80)
            fail_msg("byte %td of the JSON is not UTF-8", s - json);
    cJSON *doc = cJSON_Parse(json);
    assert_non_null(doc);
    cJSON_Delete(doc);
    free(json);
    pq_report_free(r);
}

/* ---- what cannot be reported ---- */

static void broken_files(void **state)
{
    static const struct {
        const char *name, *text;
        pq_status st;
        const char *says;
    } bad[] = {
        {"bad/run.json", "{\"verdict\": ", PQ_E_FORMAT, "run.json"},
        {"bad/run.json", "[]", PQ_E_FORMAT, "no object"},
        {"bad/run.json", "{\"verdict\": 1, \"results\": []}", PQ_E_FORMAT, "'verdict' is a number"},
        {"bad/run.json", "{\"verdict\": \"x\"}", PQ_E_FORMAT, "neither"},
        {"bad/run.json", "{\"verdict\": \"x\", \"results\": 5}", PQ_E_FORMAT, "expected an array"},
        {"bad/run.json", "{\"verdict\": \"x\", \"results\": [], \"operators\": [{}, 5]}",
         PQ_E_FORMAT, "operators[1]"},
        {"bad/run.json", "{\"verdict\": \"x\", \"results\": []}", PQ_OK, NULL},
        {"bad/ranges.json", "\xff\xfe", PQ_E_FORMAT, "ranges.json"},
        {"bad/ranges.json", "{\"tensors\": {}}", PQ_E_FORMAT, "tensors"},
        {"bad/ranges.json", "{\"tensors\": [{\"name\": 3, \"min\": \"x\"}]}", PQ_OK, NULL},
        {"bad/ranges.corrections.json", "{\"operators\": [[]]}", PQ_E_FORMAT, "operators[0]"},
        {"bad/ranges.corrections.json", "{}", PQ_OK, NULL},
    };
    pq_report *r;
    (void)state;
    PQ_CHECK_FAILS(w.ctx, pq_report_new(w.ctx, &r, at("nowhere"), NULL), PQ_E_IO, "no such folder");
    PQ_CHECK(w.ctx, pq_dir_make(w.ctx, at("bad")));
    PQ_CHECK_FAILS(w.ctx, pq_report_new(w.ctx, &r, at("bad"), NULL), PQ_E_IO, "finished run");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(bad[i].name, bad[i].text);
        if (bad[i].st == PQ_OK) {
            PQ_CHECK(w.ctx, pq_report_new(w.ctx, &r, at("bad"), NULL));
            PQ_CHECK(w.ctx, pq_report_save_html(w.ctx, r, at("bad/page.html")));
            unlink(at("bad/page.html"));
            pq_report_free(r);
        } else {
            PQ_CHECK_FAILS(w.ctx, pq_report_new(w.ctx, &r, at("bad"), NULL), bad[i].st,
                           bad[i].says);
            assert_null(r);
            assert_null(strchr(pq_ctx_error(w.ctx), '\n'));
        }
    }
}

static void wrong_arguments(void **state)
{
    const pq_detections none = {0};
    pq_graph *other = tiny_detector(w.ctx, TINY_DAMO);
    pq_report *r, *c, *none_made;
    (void)state;
    PQ_CHECK_FAILS(w.ctx, pq_report_new(w.ctx, &r, at("small"), &(pq_report_opts){.graph = other}),
                   PQ_E_INVALID, "expected that of the model");
    PQ_CHECK_FAILS(w.ctx, pq_report_new(w.ctx, &r, at("small"), &(pq_report_opts){.before = &none}),
                   PQ_E_INVALID, "without");
    r = plain("large");
    const int n = files_in(at("large"));
    PQ_CHECK_FAILS(w.ctx, pq_report_save_html(w.ctx, r, at("no/such/page.html")), PQ_E_IO, "page");
    assert_int_equal(files_in(at("large")), n);
    PQ_CHECK(w.ctx, pq_report_compare(w.ctx, &c, r, r));
    PQ_CHECK_FAILS(w.ctx, pq_report_compare(w.ctx, &none_made, c, r), PQ_E_INVALID, "comparison");
    pq_report_free(c);
    pq_report_free(r);
    pq_graph_free(other);
}

/* ---- comparing ---- */

static void compared(void **state)
{
    pq_report *a = plain("large"), *b, *c;
    (void)state;
    PQ_CHECK(w.ctx, pq_dir_make(w.ctx, at("other")));
    cJSON *run = large_run(400), *op;
    op = cJSON_GetArrayItem(cJSON_GetObjectItem(run, "operators"), 7);
    cJSON_SetValuestring(cJSON_GetObjectItem(op, "precision"), "fp32");
    cJSON_SetNumberValue(cJSON_GetObjectItem(run, "max_drop"), 0.5);
    cJSON *row = cJSON_GetArrayItem(cJSON_GetObjectItem(run, "precisions"), 2);
    cJSON_SetNumberValue(cJSON_GetObjectItem(row, "ms"), 66);
    cJSON_ReplaceItemInArray(cJSON_GetObjectItem(run, "command_line"), 1,
                             cJSON_CreateString("--pareto"));
    write_json("other/run.json", run);
    b = plain("other");
    PQ_CHECK(w.ctx, pq_report_compare(w.ctx, &c, a, b));
    const cJSON *doc = pq_report_json(c), *list = pq_field(doc, "operators");
    assert_int_equal(cJSON_GetArraySize(list), 1);
    assert_string_equal(pq_field_text(list->child, "b"), "fp32");
    assert_int_equal((int)pq_field_number(doc, "operators_in_both"), 400);
    assert_int_equal(cJSON_GetArraySize(pq_field(doc, "settings")), 3);
    row = (cJSON *)(uintptr_t)pq_field_find(pq_field(doc, "precisions"), "name", "partial");
    assert_true(fabs(pq_field_number(row, "ms_ratio") - 0.5) < 1e-12);
    assert_non_null(strstr(pq_report_text(c), "precision differs in 1 of 400 operators"));
    assert_non_null(strstr(pq_report_text(c), "max_drop: 0.3 in A, 0.5 in B"));
    assert_non_null(strstr(pq_report_text(c), "--no-adaround: yes in A, - in B"));
    assert_non_null(strstr(pq_report_text(c), "--pareto: - in A, yes in B"));
    PQ_CHECK(w.ctx, pq_report_save_html(w.ctx, c, at("other/compare.html")));
    char *html = slurp(at("other/compare.html"));
    check_numbers(html);
    assert_non_null(strstr(html, "<section id=\"operators\""));
    free(html);
    pq_report_free(c);
    PQ_CHECK(w.ctx, pq_report_compare(w.ctx, &c, a, a));
    assert_int_equal(cJSON_GetArraySize(pq_field(pq_report_json(c), "operators")), 0);
    assert_int_equal(cJSON_GetArraySize(pq_field(pq_report_json(c), "settings")), 0);
    pq_report_free(c);
    pq_report_free(a);
    pq_report_free(b);
}

/* ---- text ---- */

static void escaping(void **state)
{
    pq_page p = {.ctx = w.ctx};
    (void)state;
    pq_page_text(&p, "a<b>&\"'\x01\xc3\xa4\xed\xa0\x80\xf0\x9f\x98\x80\xf0\x9f");
    assert_string_equal(p.text,
                        "a&lt;b&gt;&amp;&quot;&#39;\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd"
                        "\xef\xbf\xbd\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd");
    p.n = 0;
    pq_page_base64(&p, "foobar", 4);
    assert_string_equal(p.text, "Zm9vYg==");
    p.n = 0;
    pq_page_base64(&p, "foobar", 6);
    assert_string_equal(p.text, "Zm9vYmFy");
    p.n = 0;
    pq_page_number(&p, -0.004, 2, true);
    pq_page_raw(&p, " ");
    pq_page_number(&p, -1.25, 1, true);
    pq_page_raw(&p, " ");
    pq_page_number(&p, 3, 0, true);
    pq_page_raw(&p, " ");
    pq_page_number(&p, NAN, 0, true);
    assert_string_equal(p.text, "\xc2\xb1"
                                "0.00 \xe2\x88\x92"
                                "1.2 +3 \xe2\x80\x93");
    p.n = 0;
    char many[600];
    memset(many, 'x', sizeof many - 1);
    many[sizeof many - 1] = 0;
    pq_page_f(&p, "%s.", many);
    assert_int_equal(p.n, sizeof many);
    pq_free(p.text);
}

static void no_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        pq_report *r = NULL;
        pq_mem_fail_after(n);
        pq_status st = pq_report_new(w.ctx, &r, at("failed"), NULL);
        if (st == PQ_OK) st = pq_report_save_html(w.ctx, r, at("failed/tight.html"));
        pq_mem_fail_after(0);
        pq_report_free(r);
        if (st == PQ_OK) break;
        assert_int_equal(st, PQ_E_NOMEM);
        assert_false(pq_file_exists(at("failed/tight.html")));
        assert_true(n < 10000);
    }
    unlink(at("failed/tight.html"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaping),     cmocka_unit_test(full_report),
        cmocka_unit_test(large_report), cmocka_unit_test(hostile_report),
        cmocka_unit_test(broken_files), cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(compared),     cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
