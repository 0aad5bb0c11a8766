/* Measuring and selecting against a made-up engine whose damage is known: each INT8 operator makes
 * the detector miss a given part of the objects, and two of them only together. */
#include <math.h>

#include <pquant/data.h>
#include <pquant/select.h>

#include "base/testing.h"

enum { SIDE = 16, N_OPS = 8, N_IMAGES = 20, N_OBJECTS = 10 };

/* Missed objects in thousandths. Operators 1 and 4 hurt alone, 2 and 6 only together. */
static const int alone[N_OPS] = {0, 250, 0, 2, 60, 0, 0, 1};
enum { TOGETHER = 80 };

typedef struct fake_session {
    pq_session base;
    pq_shape in, out[2];
    char *in_name[1], *out_name[2];
    int damage;
} fake_session;

static size_t n_compiled;

static pq_status fake_probe(pq_ctx *ctx, pq_engine_info *out)
{
    (void)ctx;
    *out = (pq_engine_info){.version = "1", .device = "none"};
    return PQ_OK;
}

static bool fake_accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    (void)g, (void)n, (void)p, (void)why;
    return true;
}

static pq_status fake_run(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                          pq_tensor *out, size_t n_out)
{
    const fake_session *s = (fake_session *)session;
    const int image = (int)((float *)pq_tensor_data(in))[0] / 10;
    float *scores = pq_tensor_data(&out[0]), *boxes = pq_tensor_data(&out[1]);
    (void)ctx, (void)n_in, (void)n_out;
    memset(scores, 0, pq_buf_bytes(out[0].buf));
    for (int j = 0; j < N_OBJECTS; j++) {
        const int luck = (image * N_OBJECTS + j) * 1000 / (N_IMAGES * N_OBJECTS);
        scores[j] = luck >= s->damage ? 0.9f : 0;
        const float x = (float)(j % 5 * 3), y = (float)(j / 5 * 8);
        const float box[4] = {x, y, x + 2, y + 6};
        memcpy(boxes + (size_t)j * 4, box, sizeof box);
    }
    return PQ_OK;
}

static void fake_destroy(pq_session *s) { free(s); }

static pq_status fake_compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                              const pq_compile_opts *opts);

static const pq_engine fake = {.abi = PQ_ENGINE_ABI,
                               .name = "fake",
                               .probe = fake_probe,
                               .accepts = fake_accepts,
                               .compile = fake_compile,
                               .run = fake_run,
                               .destroy = fake_destroy};

static pq_status fake_compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                              const pq_compile_opts *opts)
{
    fake_session *s = calloc(1, sizeof *s);
    pq_binding b;
    (void)opts;
    assert_non_null(s);
    assert_ok(ctx, pq_plan_bind(ctx, &b, plan, g));
    bool int8[N_OPS];
    for (int k = 0; k < N_OPS; k++) {
        int8[k] = b.precision[pq_graph_quantizable(g, k)] == PQ_PREC_INT8;
        s->damage += int8[k] ? alone[k] : 0;
    }
    s->damage += int8[2] && int8[6] ? TOGETHER : 0;
    pq_binding_clear(&b);
    s->in = g->value[g->input[0]].shape;
    s->in_name[0] = "x";
    s->out_name[0] = "scores";
    s->out_name[1] = "boxes";
    for (int k = 0; k < 2; k++) s->out[k] = g->value[g->output[k]].shape;
    s->base = (pq_session){.engine = &fake,
                           .n_inputs = 1,
                           .n_outputs = 2,
                           .input_shape = &s->in,
                           .output_shape = s->out,
                           .input_name = s->in_name,
                           .output_name = s->out_name};
    *out = &s->base;
    n_compiled++;
    return PQ_OK;
}

/* ---- a network, ranges and pictures to go with it ---- */

typedef struct world {
    test_env *env;
    pq_graph *g;
    pq_ranges *ranges;
    pq_coco *coco;
    pq_dataset *data;
    pq_prep prep;
    pq_head head;
    char journal[128];
    double deadline;
} world;

static pq_value_id add_conv(pq_ctx *ctx, pq_graph *g, pq_value_id x, int64_t in, int64_t out, int k)
{
    char name[16];
    pq_buf *b;
    pq_value_id w;
    pq_node_id n;
    snprintf(name, sizeof name, "w%d", k);
    assert_ok(ctx, pq_buf_new(ctx, &b, (size_t)(in * out) * sizeof(float)));
    assert_ok(ctx, pq_graph_add_const(ctx, &w, g, name, PQ_F32, &PQ_SHAPE(out, in, 1, 1), b));
    pq_buf_unref(b);
    snprintf(name, sizeof name, "conv%d", k);
    const pq_attr a = {
        .window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    const pq_value_id v[2] = {x, w};
    assert_ok(ctx, pq_graph_add_node(ctx, &n, g, name, PQ_OP_CONV, NULL, v, 2, 1, NULL, &a));
    return g->node[n].out[0];
}

static void make_graph(world *w)
{
    pq_ctx *ctx = w->env->ctx;
    pq_value_id x, in[2];
    pq_node_id n;
    assert_ok(ctx, pq_graph_new(ctx, &w->g));
    assert_ok(ctx, pq_graph_add_value(ctx, &x, w->g, "x", PQ_F32, &PQ_SHAPE(1, 3, SIDE, SIDE)));
    assert_ok(ctx, pq_graph_set_inputs(ctx, w->g, &x, 1));
    for (int k = 0; k < N_OPS - 2; k++) x = add_conv(ctx, w->g, x, 3, 3, k);
    in[0] = add_conv(ctx, w->g, x, 3, 1, N_OPS - 2);
    in[1] = add_conv(ctx, w->g, x, 3, 8, N_OPS - 1);
    const pq_attr a = {.levels = 1, .reg_max = 1, .strides = {1}};
    assert_ok(ctx, pq_graph_add_node(ctx, &n, w->g, "head", PQ_OP_GFL_DECODE, NULL, in, 2, 2,
                                     "scores", &a));
    assert_ok(ctx, pq_graph_set_outputs(ctx, w->g, w->g->node[n].out, 2));
    assert_ok(ctx, pq_graph_infer(ctx, w->g));
    pq_graph_mark_quantizable(w->g);
    assert_ok(ctx, pq_alloc(ctx, &w->ranges, 1, sizeof *w->ranges));
    assert_ok(ctx, pq_alloc(ctx, &w->ranges->range, w->g->n_values, sizeof *w->ranges->range));
    pq_graph_hash(w->g, w->ranges->graph_hash);
    for (size_t i = 0; i < w->g->n_values; i++) {
        pq_range *r = &w->ranges->range[w->ranges->n++];
        *r = (pq_range){.amax = 1, .lo = -1, .hi = 1};
        assert_ok(ctx, pq_strdup(ctx, &r->name, w->g->value[i].name));
    }
}

static void make_data(world *w)
{
    pq_ctx *ctx = w->env->ctx;
    char path[160], json[160];
    snprintf(json, sizeof json, "%s/ann.json", w->env->dir);
    FILE *f = fopen(json, "w");
    assert_non_null(f);
    fputs("{\"categories\":[{\"id\":3,\"name\":\"thing\"}],\"images\":[", f);
    for (int i = 0; i < N_IMAGES; i++)
        fprintf(f, "%s{\"id\":%d,\"file_name\":\"%d.png\",\"width\":%d,\"height\":%d}",
                i ? "," : "", i + 1, i, SIDE, SIDE);
    fputs("],\"annotations\":[", f);
    for (int i = 0; i < N_IMAGES * N_OBJECTS; i++) {
        const int j = i % N_OBJECTS;
        fprintf(f,
                "%s{\"id\":%d,\"image_id\":%d,\"category_id\":3,\"bbox\":[%d,%d,2,6],\"area\":12,"
                "\"iscrowd\":0}",
                i ? "," : "", i + 1, i / N_OBJECTS + 1, j % 5 * 3, j / 5 * 8);
    }
    fputs("]}", f);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < N_IMAGES; i++) {
        pq_image img;
        assert_ok(ctx, pq_image_new(ctx, &img, SIDE, SIDE));
        memset(img.data, i * 10, SIDE * SIDE * 3);
        snprintf(path, sizeof path, "%s/%d.png", w->env->dir, i);
        assert_ok(ctx, pq_image_save(ctx, &img, path));
        pq_image_clear(&img);
    }
    assert_ok(ctx, pq_coco_load(ctx, &w->coco, json));
    assert_ok(ctx, pq_dataset_from_coco(ctx, &w->data, w->coco, w->env->dir, 0));
}

static world make_world(void **state)
{
    world w = {.env = *state};
    make_graph(&w);
    make_data(&w);
    w.prep = (pq_prep){.h = SIDE, .w = SIDE};
    w.head = (pq_head){.family = PQ_HEAD_DAMO,
                       .conf = 0.1,
                       .iou = 0.7,
                       .max_det = 100,
                       .n_classes = 1,
                       .anchors = SIDE * SIDE,
                       .h = SIDE,
                       .w = SIDE,
                       .scores_at = 0,
                       .boxes_at = 1};
    snprintf(w.journal, sizeof w.journal, "%s/sensitivity.jsonl", w.env->dir);
    return w;
}

static void end_world(world *w)
{
    pq_dataset_free(w->data);
    pq_coco_free(w->coco);
    pq_ranges_free(w->ranges);
    pq_graph_free(w->g);
}

static pq_meter *make_meter(world *w)
{
    const pq_meter_opts o = {.engine = &fake,
                             .graph = w->g,
                             .ranges = w->ranges,
                             .scheme = PQ_SCHEME_S8,
                             .data = w->data,
                             .coco = w->coco,
                             .prep = &w->prep,
                             .head = &w->head,
                             .threads = 2,
                             .journal = w->journal,
                             .deadline = w->deadline};
    pq_meter *m;
    assert_ok(w->env->ctx, pq_meter_new(w->env->ctx, &m, &o));
    return m;
}

/* ---- tests ---- */

static void test_scores_are_shapley_values(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_scores *s;
    double sum = 0;
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &s, m, PQ_SWEEP_AP));
    assert_true(fabs(s->base.figures.v[PQ_FIG_AP] - 1) < 1e-9);
    assert_int_equal(s->units.n, N_OPS);
    for (size_t i = 0; i < s->units.n; i++) {
        /* A pair's damage is shared in halves. AP has steps of about 1/101. */
        const double want = alone[i] / 1000.0 + (i == 2 || i == 6 ? TOGETHER / 2000.0 : 0);
        assert_true(s->unit[i].measured);
        assert_true(fabs(s->unit[i].damage - want) < 0.02);
        assert_true(s->unit[i].low <= s->unit[i].damage && s->unit[i].damage <= s->unit[i].high);
        sum += s->unit[i].damage;
    }
    assert_true(fabs(sum - s->int8.drop) < 0.04);
    assert_true(s->int8.low < s->int8.drop && s->int8.drop < s->int8.high);
    assert_string_equal(s->unit[1].name, "conv1");
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static void test_screening_ranks_units(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_scores *s;
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &s, m, PQ_SWEEP_SCREEN));
    /* Each missed object of score s adds s (s + s) to s^2. Missing objects add up, unlike chance.
     */
    double far = TOGETHER / 500.0;
    for (size_t i = 0; i < s->units.n; i++) far += alone[i] / 500.0;
    assert_true(fabs(s->error_far - far) < 0.03);
    for (size_t i = 0; i < s->units.n; i++) {
        assert_true(s->unit[i].screened && !s->unit[i].measured && !s->unit[i].aside);
        const double one = alone[i] / 500.0,
                     rest = far - one - (i == 2 || i == 6 ? TOGETHER / 500.0 : 0);
        const double f = s->error_far, a = s->unit[i].error_alone, r = s->unit[i].error_reverted;
        assert_true(fabs(a - one) < 0.03 && fabs(r - rest) < 0.04);
        assert_true(fabs(s->unit[i].error - sqrt((a * a + f * f - r * r) / 2)) < 0.02);
    }
    const size_t n = pq_meter_count(m);
    assert_int_equal(n, 2 + 1 + 2 * N_OPS); /* AP of both ends, a screening of all, of each twice */
    bool wanted[N_OPS] = {false, true};
    assert_ok(w.env->ctx, pq_sweep_more(w.env->ctx, s, m, wanted));
    assert_int_equal(pq_meter_count(m), n + 2);
    assert_true(s->unit[1].measured && !s->unit[2].measured);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static pq_scores *swept(world *w, pq_meter *m, pq_model *model)
{
    pq_scores *s;
    assert_ok(w->env->ctx, pq_sweep(w->env->ctx, &s, m, PQ_SWEEP_SCREEN));
    assert_ok(w->env->ctx, pq_model_make(w->env->ctx, model, s, NULL, 0));
    return s;
}

static void test_selection_keeps_what_hurts(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_model model;
    pq_choice c;
    pq_scores *s = swept(&w, m, &model);
    assert_ok(w.env->ctx, pq_select_by_drop(w.env->ctx, &c, m, w.g, s, &model, 0.01));
    assert_true(c.within);
    assert_true(c.measured.whole && c.measured.drop <= 0.01);
    const bool kept[N_OPS] = {false, true,  c.label[2] == PQ_LABEL_FULL, false,
                              true,  false, c.label[6] == PQ_LABEL_FULL, false};
    for (int i = 0; i < N_OPS; i++)
        assert_int_equal(c.label[i], kept[i] ? PQ_LABEL_FULL : PQ_LABEL_INT8);
    assert_int_equal(c.n_kept, 3); /* one of the pair is enough */
    assert_false(c.cut);
    pq_choice_clear(&c);
    assert_ok(w.env->ctx, pq_select_by_drop(w.env->ctx, &c, m, w.g, s, &model, 1));
    assert_int_equal(c.n_kept, 0);
    pq_choice_clear(&c);
    pq_model_clear(&model);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

/* What surely breaks the budget alone is out of the way of the others, and no more is. */
static void test_screening_for_a_budget(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_ctx *ctx = w.env->ctx;
    pq_scores *s;
    pq_model model;
    pq_choice c;
    assert_fails(ctx, pq_sweep_for(ctx, &s, m, 0, 0.5), PQ_E_INVALID, "expected more than 0");
    assert_ok(ctx, pq_sweep_for(ctx, &s, m, 0.01, 0.5));
    for (int u = 0; u < N_OPS; u++) assert_int_equal(s->aside[u], u == 1);
    assert_true(fabs(s->unit[1].damage - 0.25) < 0.02 && s->unit[1].low > 0.01);
    assert_true(fabs(s->far.drop - (TOGETHER + 63) / 1000.0) < 0.02 && s->far.whole);
    assert_true(s->int8.drop > 0.35);
    assert_true(s->unit[2].error > s->unit[3].error && s->unit[6].error > s->unit[3].error);
    assert_ok(ctx, pq_model_make(ctx, &model, s, NULL, 0));
    assert_ok(ctx, pq_select_by_drop(ctx, &c, m, w.g, s, &model, 0.01));
    assert_true(c.within && c.n_kept == 3);
    assert_true(c.label[1] == PQ_LABEL_FULL && c.label[4] == PQ_LABEL_FULL);
    pq_choice_clear(&c);
    pq_model_clear(&model);
    pq_scores_free(s);
    assert_ok(ctx, pq_sweep_for(ctx, &s, m, 0.5, 0.5)); /* all-INT8 holds: none is judged */
    for (int u = 0; u < N_OPS; u++) assert_false(s->aside[u]);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static double mean_error(world *w, pq_meter *m, const pq_model *model)
{
    double sum = 0;
    for (unsigned mask = 0; mask < 1u << N_OPS; mask += 7) {
        uint8_t label[N_OPS], x[N_OPS];
        pq_measured d;
        for (int k = 0; k < N_OPS; k++) {
            x[k] = mask >> k & 1;
            label[k] = x[k] ? PQ_LABEL_INT8 : PQ_LABEL_FULL;
        }
        assert_ok(w->env->ctx, pq_meter_measure(w->env->ctx, &d, m, label, INFINITY));
        sum += fabs(pq_problem_damage(&model->problem, x) - d.drop);
    }
    return sum / 37;
}

/* A model that is wrong by half is put right by plans; it is asked for others than it has seen. */
static void test_model_learns_from_plans(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_model model;
    pq_scores *s = swept(&w, m, &model);
    double held = -1;
    assert_ok(w.env->ctx, pq_model_learn(w.env->ctx, &model, s, m, &held));
    assert_true(held == 0); /* two plans teach nothing */
    pq_meter *other;
    for (int u = 0; u < N_OPS; u++) model.damage[2 * u + 1] *= 2;
    const double damage = model.damage[3];
    const size_t n = strlen(w.journal);
    snprintf(w.journal + n, sizeof w.journal - n, "2");
    other = make_meter(&w);
    const double before = mean_error(&w, other, &model);
    assert_true(model.damage[3] == damage);
    for (unsigned mask = 3; mask < 1u << N_OPS; mask += 11) {
        uint8_t label[N_OPS];
        pq_measured d;
        for (int k = 0; k < N_OPS; k++) label[k] = mask >> k & 1 ? PQ_LABEL_INT8 : PQ_LABEL_FULL;
        assert_ok(w.env->ctx, pq_meter_measure(w.env->ctx, &d, m, label, INFINITY));
    }
    assert_ok(w.env->ctx, pq_model_learn(w.env->ctx, &model, s, m, &held));
    const double after = mean_error(&w, other, &model);
    assert_true(held > 0 && held < 0.06);
    assert_true(after < before / 2);
    pq_meter_free(other);
    pq_model_clear(&model);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static void test_front_is_measured(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_model model;
    pq_choice *c;
    size_t n;
    pq_scores *s = swept(&w, m, &model);
    assert_ok(w.env->ctx, pq_measure_front(w.env->ctx, &c, &n, m, w.g, s, &model, 5));
    assert_int_equal(n, 5);
    assert_int_equal(c[0].n_kept, 0);
    assert_true(c[n - 1].n_kept >= 3 && c[n - 1].measured.drop < 0.01);
    for (size_t i = 0; i < n; i++) {
        assert_true(c[i].measured.whole);
        assert_true(fabs(c[i].predicted - c[i].measured.drop) < 0.1);
        assert_true(i == 0 || c[i].ms > c[i - 1].ms);
    }
    for (size_t i = 0; i < n; i++) pq_choice_clear(&c[i]);
    pq_free(c);
    pq_model_clear(&model);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static pq_status ms_of(pq_ctx *ctx, void *user, const uint8_t *label, double *ms)
{
    (void)ctx, (void)user;
    *ms = 1;
    for (int i = 0; i < N_OPS; i++) *ms += label[i] == PQ_LABEL_INT8 ? 0 : 1;
    return PQ_OK;
}

/* Time as ms_of has it, but for a model that is wrong by `factor`. */
static pq_latency *time_model(world *w, double factor)
{
    pq_latency *l;
    assert_ok(w->env->ctx, pq_alloc(w->env->ctx, &l, 1, sizeof *l));
    assert_ok(w->env->ctx, pq_alloc(w->env->ctx, &l->ms, (size_t)N_OPS * 2, sizeof *l->ms));
    l->n_units = N_OPS;
    l->n_labels = 2;
    l->ms_fixed = 1;
    for (int i = 0; i < N_OPS; i++) l->ms[2 * i] = factor;
    return l;
}

static void test_latency_budget(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_scores *s;
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &s, m, PQ_SWEEP_SCREEN));
    for (int wrong = 0; wrong < 2; wrong++) {
        pq_latency *l = time_model(&w, wrong ? 0.5 : 1);
        pq_model model;
        pq_choice c;
        assert_ok(w.env->ctx, pq_model_make(w.env->ctx, &model, s, l, 0));
        assert_ok(w.env->ctx,
                  pq_select_by_latency(w.env->ctx, &c, m, w.g, s, &model, 2.5, ms_of, NULL));
        assert_true(c.within);
        assert_int_equal(c.n_kept, 1); /* 2 ms; another would be 3 */
        assert_int_equal(c.label[1], PQ_LABEL_FULL);
        pq_choice_clear(&c);
        assert_ok(w.env->ctx,
                  pq_select_by_latency(w.env->ctx, &c, m, w.g, s, &model, 0.5, ms_of, NULL));
        assert_false(c.within);
        assert_int_equal(c.n_kept, 0);
        pq_choice_clear(&c);
        pq_model_clear(&model);
        pq_latency_free(l);
    }
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static void test_hopeless_plans_stop_early(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_measured d;
    uint8_t label[N_OPS];
    memset(label, PQ_LABEL_INT8, sizeof label);
    assert_ok(w.env->ctx, pq_meter_measure(w.env->ctx, &d, m, label, 0.001));
    assert_false(d.whole);
    assert_true(d.n_images < N_IMAGES && d.low > 0.001);
    const size_t n = pq_meter_count(m);
    assert_ok(w.env->ctx, pq_meter_measure(w.env->ctx, &d, m, label, 0.001)); /* known */
    assert_int_equal(pq_meter_count(m), n);
    assert_ok(w.env->ctx, pq_meter_measure(w.env->ctx, &d, m, label, INFINITY));
    assert_true(d.whole);
    assert_int_equal(d.n_images, N_IMAGES);
    assert_int_equal(pq_meter_count(m), n + 1);
    pq_meter_free(m);
    end_world(&w);
}

static void test_deadline_ends_in_time(void **state)
{
    world w = make_world(state);
    pq_meter *m = make_meter(&w);
    pq_scores *s;
    pq_model model;
    pq_choice c;
    assert_ok(w.env->ctx, pq_sweep_for(w.env->ctx, &s, m, 0.01, 0.5));
    assert_ok(w.env->ctx, pq_model_make(w.env->ctx, &model, s, NULL, 0));
    pq_meter_free(m);
    w.deadline = 1e-9; /* long past */
    m = make_meter(&w);
    assert_true(pq_meter_late(m));
    assert_ok(w.env->ctx, pq_select_by_drop(w.env->ctx, &c, m, w.g, s, &model, 0.01));
    assert_true(c.within);
    assert_true(c.measured.drop <= 0.01);
    assert_true(c.n_kept < N_OPS); /* what screening found worst is enough */
    assert_true(c.cut);
    pq_choice_clear(&c);
    pq_model_clear(&model);
    pq_scores_free(s);

    w.ranges->range[1].amax = 2; /* nothing is known of these scales, and there is no time */
    pq_meter_free(m);
    m = make_meter(&w);
    assert_ok(w.env->ctx, pq_sweep_for(w.env->ctx, &s, m, 0.001, 0.5));
    assert_false(s->unit[0].screened);
    assert_true(s->unit[0].error > 0);
    assert_ok(w.env->ctx, pq_model_make(w.env->ctx, &model, s, NULL, 0));
    assert_ok(w.env->ctx, pq_select_by_drop(w.env->ctx, &c, m, w.g, s, &model, 0.001));
    assert_true(c.within && c.cut && c.measured.drop <= 0.001);
    pq_choice_clear(&c);
    pq_model_clear(&model);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static void test_interrupted_sweep_goes_on(void **state)
{
    world w = make_world(state);
    pq_scores *first, *second;
    pq_meter *m = make_meter(&w);
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &first, m, PQ_SWEEP_AP));
    assert_int_equal(pq_meter_count(m), 2 * N_OPS + 2);
    pq_meter_free(m);

    /* The machine went down inside the fifth line. */
    pq_buf *b;
    assert_ok(w.env->ctx, pq_file_map(w.env->ctx, &b, w.journal));
    const char *text = pq_buf_data(b), *p = text;
    for (int i = 0; i < 4; i++) p = strchr(p, '\n') + 1;
    const size_t n = (size_t)(p - text) + 20;
    char *part = malloc(n);
    assert_non_null(part);
    memcpy(part, text, n);
    pq_buf_unref(b);
    assert_ok(w.env->ctx, pq_file_write(w.env->ctx, w.journal, part, n));
    free(part);

    m = make_meter(&w);
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &second, m, PQ_SWEEP_AP));
    assert_int_equal(pq_meter_count(m), 2 * N_OPS + 2 - 4);
    for (size_t i = 0; i < first->units.n; i++) {
        assert_true(first->unit[i].damage == second->unit[i].damage);
        assert_true(first->unit[i].low == second->unit[i].low);
    }
    pq_meter_free(m);

    n_compiled = 0; /* a third time everything is known */
    m = make_meter(&w);
    pq_scores_free(second);
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &second, m, PQ_SWEEP_AP));
    assert_int_equal(pq_meter_count(m), 0);
    assert_int_equal(n_compiled, 0);
    pq_meter_free(m);

    w.ranges->range[1].amax = 2; /* other scales: nothing of it counts */
    m = make_meter(&w);
    pq_measured d;
    const uint8_t none[N_OPS] = {0};
    assert_ok(w.env->ctx, pq_meter_measure(w.env->ctx, &d, m, none, INFINITY));
    assert_int_equal(pq_meter_count(m), 1);
    assert_true(d.drop == 0 && d.whole);
    pq_meter_free(m);
    pq_scores_free(first);
    pq_scores_free(second);
    end_world(&w);
}

static int stop(void *user, const char *stage, size_t done, size_t total)
{
    (void)user, (void)total;
    return strcmp(stage, "sweep") == 0 && done == 3;
}

static void test_cancelled_keeps_what_is_done(void **state)
{
    world w = make_world(state);
    pq_scores *s;
    pq_meter *m = make_meter(&w);
    pq_ctx_set_progress(w.env->ctx, stop, NULL);
    assert_fails(w.env->ctx, pq_sweep(w.env->ctx, &s, m, PQ_SWEEP_AP), PQ_E_CANCELLED,
                 "sweep stopped at 3 of 16");
    assert_null(s);
    pq_meter_free(m);
    pq_ctx_set_progress(w.env->ctx, NULL, NULL);
    m = make_meter(&w);
    assert_ok(w.env->ctx, pq_sweep(w.env->ctx, &s, m, PQ_SWEEP_AP));
    assert_int_equal(pq_meter_count(m), 2 * N_OPS + 2 - 5);
    pq_scores_free(s);
    pq_meter_free(m);
    end_world(&w);
}

static void test_presets(void **state)
{
    test_env *e = *state;
    bool int8[120];
    static const int small_float[] = {31, 41, 49, 51, 59, 61, 69, 71, 79};
    size_t n = 0;
    assert_ok(e->ctx, pq_preset(e->ctx, int8, 86, "small"));
    for (int i = 0; i < 86; i++) {
        bool kept = false;
        for (size_t k = 0; k < 9; k++) kept = kept || small_float[k] == i;
        assert_true(int8[i] == !kept);
    }
    assert_ok(e->ctx, pq_preset(e->ctx, int8, 80, "tiny"));
    for (int i = 0; i < 80; i++) assert_true(int8[i] == (i <= 23 || i >= 74));
    assert_ok(e->ctx, pq_preset(e->ctx, int8, 114, "medium"));
    for (int i = 0; i < 114; i++) n += int8[i];
    assert_int_equal(n, 5 + 9 + 17 + 12 + 1 + 6);
    assert_false(int8[5] || int8[15] || int8[33] || int8[46] || int8[48] || int8[107]);
    assert_fails(e->ctx, pq_preset(e->ctx, int8, 80, "small"), PQ_E_INVALID,
                 "names operator 85, the model has 80");
    assert_fails(e->ctx, pq_preset(e->ctx, int8, 80, "huge"), PQ_E_INVALID,
                 "expected tiny, small or medium");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_scores_are_shapley_values, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_screening_ranks_units, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_selection_keeps_what_hurts, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_screening_for_a_budget, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_model_learns_from_plans, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_front_is_measured, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_latency_budget, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_hopeless_plans_stop_early, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_deadline_ends_in_time, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_interrupted_sweep_goes_on, test_setup, test_teardown),
        cmocka_unit_test_setup_teardown(test_cancelled_keeps_what_is_done, test_setup,
                                        test_teardown),
        cmocka_unit_test_setup_teardown(test_presets, test_setup, test_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
