/* Shape inference: operators that move elements, and Shape, ConstantOfShape, Range. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "graph/infer_rules.h"

static pq_status rule_concat(const pq_infer_scope *s)
{
    char ta[160], tb[160];
    pq_shape out = *pq_infer_shape(s, 0);
    pq_status st = pq_infer_axis(s, &s->n->attr.axis, out.rank);
    if (st != PQ_OK) return st;
    const int axis = (int)s->n->attr.axis;
    for (int i = 1; i < s->n->n_in; i++) {
        pq_shape rest = *pq_infer_shape(s, i), first = *pq_infer_shape(s, 0);
        bool fits = rest.rank == first.rank && pq_infer_in(s, i)->dtype == pq_infer_in(s, 0)->dtype;
        if (fits) {
            if (__builtin_add_overflow(out.dim[axis], rest.dim[axis], &out.dim[axis])) fits = false;
            rest.dim[axis] = first.dim[axis];
            fits = fits && pq_shape_equal(&rest, &first);
        }
        if (!fits)
            return pq_fail(s->ctx, PQ_E_FORMAT,
                           "input 0 is %s %s, input %d is %s %s: they differ outside axis %d",
                           pq_dtype_name(pq_infer_in(s, 0)->dtype),
                           pq_shape_text(pq_infer_shape(s, 0), ta, sizeof ta), i,
                           pq_dtype_name(pq_infer_in(s, i)->dtype),
                           pq_shape_text(pq_infer_shape(s, i), tb, sizeof tb), axis);
    }
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_split(const pq_infer_scope *s)
{
    int64_t size[64], sum = 0;
    int n = s->n->n_out;
    pq_shape x = *pq_infer_shape(s, 0);
    pq_status st = pq_infer_axis(s, &s->n->attr.axis, x.rank);
    if (st != PQ_OK) return st;
    const int64_t whole = x.dim[s->n->attr.axis];
    if (pq_infer_has(s, 1)) {
        if ((st = pq_infer_ints(s, 1, size, 64, &n)) != PQ_OK) return st;
    } else {
        const int64_t part = (whole + n - 1) / n; /* the last may be smaller */
        for (int i = 0; i < n; i++) size[i] = i + 1 < n ? part : whole - part * (n - 1);
    }
    bool ok = n == s->n->n_out;
    for (int i = 0; i < n; i++)
        ok = ok && size[i] >= 0 && !__builtin_add_overflow(sum, size[i], &sum);
    if (!ok || sum != whole)
        return pq_fail(s->ctx, PQ_E_FORMAT,
                       "%d sizes with the sum %lld, expected %d with the sum %lld", n,
                       (long long)sum, s->n->n_out, (long long)whole);
    for (int i = 0; i < n; i++) {
        x.dim[s->n->attr.axis] = size[i];
        st = pq_infer_set(s, i, pq_infer_in(s, 0)->dtype, &x);
    }
    return st;
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

/* starts, ends, axes, steps (inputs 1 to 4) into attr.begin and attr.step of every dimension. With
 * one input the attributes and the output's shape were set by whoever made the node. */
static pq_status rule_slice(const pq_infer_scope *s)
{
    pq_status st;
    int64_t starts[PQ_MAX_RANK], ends[PQ_MAX_RANK], axes[PQ_MAX_RANK], steps[PQ_MAX_RANK];
    int n, n_ends, n_axes, n_steps;
    pq_attr *a = &s->n->attr;
    pq_shape out = *pq_infer_shape(s, 0);
    const pq_shape *x = pq_infer_shape(s, 0);
    if (s->n->n_in == 1) {
        out = pq_out_value(s->g, s->n, 0)->shape;
        for (int i = 0; i < x->rank; i++) {
            int64_t last = a->begin[i] + (out.dim[i] - 1) * a->step[i];
            if (out.rank != x->rank || !a->step[i] ||
                (out.dim[i] &&
                 (a->begin[i] < 0 || a->begin[i] >= x->dim[i] || last < 0 || last >= x->dim[i])))
                return pq_fail(s->ctx, PQ_E_FORMAT,
                               "slice of dimension %d leaves its %lld elements", i,
                               (long long)x->dim[i]);
        }
        return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
    }
    if (!pq_infer_has(s, 1) || !pq_infer_has(s, 2))
        return pq_fail(s->ctx, PQ_E_FORMAT, "no starts or no ends");
    PQ_TRY(pq_infer_ints(s, 1, starts, PQ_MAX_RANK, &n));
    PQ_TRY(pq_infer_ints(s, 2, ends, PQ_MAX_RANK, &n_ends));
    n_axes = n_steps = n;
    for (int i = 0; i < n; i++) axes[i] = i, steps[i] = 1;
    if (pq_infer_has(s, 3)) PQ_TRY(pq_infer_ints(s, 3, axes, PQ_MAX_RANK, &n_axes));
    if (pq_infer_has(s, 4)) PQ_TRY(pq_infer_ints(s, 4, steps, PQ_MAX_RANK, &n_steps));
    if (n_ends != n || n_axes != n || n_steps != n) {
        st = pq_fail(s->ctx, PQ_E_FORMAT,
                     "%d starts, %d ends, %d axes, %d steps, expected one number", n, n_ends,
                     n_axes, n_steps);
        goto out;
    }
    for (int i = 0; i < PQ_MAX_RANK; i++) a->begin[i] = 0, a->step[i] = 1;
    for (int i = 0; i < n; i++) {
        PQ_TRY(pq_infer_axis(s, &axes[i], x->rank));
        const int64_t dim = x->dim[axes[i]], step = steps[i];
        if (!step || step < -INT64_MAX) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "step %lld", (long long)step);
            goto out;
        }
        int64_t from = starts[i] < 0 ? starts[i] + dim : starts[i];
        int64_t to = ends[i] < 0 ? ends[i] + dim : ends[i];
        from = step > 0 ? clamp(from, 0, dim) : clamp(from, 0, dim - 1);
        to = step > 0 ? clamp(to, 0, dim) : clamp(to, -1, dim - 1);
        const int64_t span = step > 0 ? to - from : from - to, pace = step > 0 ? step : -step;
        out.dim[axes[i]] = dim < 1 || span <= 0 ? 0 : (span - 1) / pace + 1;
        a->begin[axes[i]] = from;
        a->step[axes[i]] = step;
    }
    st = pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
out:
    return st;
}

static pq_status rule_reshape(const pq_infer_scope *s)
{
    int64_t to[PQ_MAX_RANK], rest = 1;
    char tx[160], ty[160];
    const pq_shape *x = pq_infer_shape(s, 0);
    const int64_t count = pq_shape_count(x);
    pq_shape out = {0, {0}};
    pq_status st;
    int open = -1;
    if (s->n->n_in == 1) {
        out = pq_out_value(s->g, s->n, 0)->shape;
    } else {
        if (!pq_infer_has(s, 1)) return pq_fail(s->ctx, PQ_E_FORMAT, "no target shape");
        if ((st = pq_infer_ints(s, 1, to, PQ_MAX_RANK, &out.rank)) != PQ_OK) return st;
        for (int i = 0; i < out.rank; i++) {
            out.dim[i] = to[i] ? to[i] : i < x->rank ? x->dim[i] : 0;
            if (to[i] == -1 && open < 0)
                open = i;
            else if (out.dim[i] < 0 || __builtin_mul_overflow(rest, out.dim[i], &rest))
                return pq_fail(s->ctx, PQ_E_FORMAT, "cannot reshape %s: dimension %d is to be %lld",
                               pq_shape_text(x, tx, sizeof tx), i, (long long)to[i]);
        }
        if (open >= 0) out.dim[open] = rest ? count / rest : 0;
    }
    if (pq_shape_count(&out) != count)
        return pq_fail(s->ctx, PQ_E_FORMAT, "cannot reshape %s to %s",
                       pq_shape_text(x, tx, sizeof tx), pq_shape_text(&out, ty, sizeof ty));
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_flatten(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    pq_shape out = PQ_SHAPE(1, 1);
    int64_t *axis = &s->n->attr.axis;
    if (*axis != x->rank) { /* axis = rank is allowed here: [all, 1] */
        pq_status st = pq_infer_axis(s, axis, x->rank);
        if (st != PQ_OK) return st;
    }
    for (int i = 0; i < x->rank; i++) out.dim[i >= *axis] *= x->dim[i];
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_squeeze(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    pq_attr *a = &s->n->attr;
    pq_shape out = {0, {0}};
    pq_status st = pq_infer_axes(s, x->rank);
    if (st != PQ_OK) return st;
    bool drop[PQ_MAX_RANK] = {false};
    for (int i = 0; i < a->n_axes; i++) {
        drop[a->axes[i]] = true;
        if (x->dim[a->axes[i]] != 1)
            return pq_fail(s->ctx, PQ_E_FORMAT, "dimension %lld is %lld, expected 1",
                           (long long)a->axes[i], (long long)x->dim[a->axes[i]]);
    }
    for (int i = 0; i < x->rank; i++)
        if (a->n_axes ? !drop[i] : x->dim[i] != 1) out.dim[out.rank++] = x->dim[i];
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_unsqueeze(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    pq_attr *a = &s->n->attr;
    int64_t given[PQ_MAX_RANK];
    pq_status st;
    if (pq_infer_has(s, 1)) {
        if ((st = pq_infer_ints(s, 1, given, PQ_MAX_RANK, &a->n_axes)) != PQ_OK) return st;
        memcpy(a->axes, given, sizeof given[0] * (size_t)a->n_axes);
    }
    pq_shape out = {x->rank + a->n_axes, {0}};
    if (out.rank > PQ_MAX_RANK)
        return pq_fail(s->ctx, PQ_E_UNSUPPORTED, "%d dimensions, at most %d", out.rank,
                       PQ_MAX_RANK);
    if ((st = pq_infer_axes(s, out.rank)) != PQ_OK) return st;
    for (int i = 0; i < a->n_axes; i++) out.dim[a->axes[i]] = -1; /* marks a new dimension */
    for (int i = 0, k = 0; i < out.rank; i++) out.dim[i] = out.dim[i] < 0 ? 1 : x->dim[k++];
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_transpose(const pq_infer_scope *s)
{
    const pq_shape *x = pq_infer_shape(s, 0);
    int64_t *perm = s->n->attr.perm;
    pq_shape out = {x->rank, {0}};
    bool seen[PQ_MAX_RANK] = {false}, given = false;
    for (int i = 0; i < x->rank; i++) given |= perm[i] != 0;
    for (int i = 0; i < x->rank; i++) {
        if (!given) perm[i] = x->rank - 1 - i; /* ONNX's default */
        if (perm[i] < 0 || perm[i] >= x->rank || seen[perm[i]])
            return pq_fail(s->ctx, PQ_E_FORMAT, "perm is not an order of %d dimensions", x->rank);
        seen[perm[i]] = true;
        out.dim[i] = x->dim[perm[i]];
    }
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_expand(const pq_infer_scope *s)
{
    pq_shape to = {0, {0}}, out;
    pq_status st = pq_infer_ints(s, 1, to.dim, PQ_MAX_RANK, &to.rank);
    if (st == PQ_OK) st = pq_infer_broadcast(s, &out, pq_infer_shape(s, 0), &to);
    return st == PQ_OK ? pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out) : st;
}

static pq_status rule_tile(const pq_infer_scope *s)
{
    pq_shape out = *pq_infer_shape(s, 0);
    int64_t repeats[PQ_MAX_RANK];
    int n = 0;
    const pq_status st = pq_infer_ints(s, 1, repeats, PQ_MAX_RANK, &n);
    if (st != PQ_OK) return st;
    if (n != out.rank) return pq_fail(s->ctx, PQ_E_FORMAT, "%d repeats, expected %d", n, out.rank);
    for (int i = 0; i < n; i++)
        if (repeats[i] < 0 || __builtin_mul_overflow(out.dim[i], repeats[i], &out.dim[i]))
            return pq_fail(s->ctx, PQ_E_FORMAT, "dimension %d is to be repeated %lld times", i,
                           (long long)repeats[i]);
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_pad(const pq_infer_scope *s)
{
    pq_status st = PQ_OK;
    int64_t pads[2 * PQ_MAX_RANK], axes[PQ_MAX_RANK];
    int n = 0, n_axes = pq_infer_shape(s, 0)->rank;
    double value = 0;
    pq_attr *a = &s->n->attr;
    pq_shape out = *pq_infer_shape(s, 0);
    for (int i = 0; i < PQ_MAX_RANK; i++) axes[i] = i;
    if (s->n->n_in > 1) {
        if (!pq_infer_has(s, 1)) return pq_fail(s->ctx, PQ_E_FORMAT, "no pads");
        PQ_TRY(pq_infer_ints(s, 1, pads, 2 * PQ_MAX_RANK, &n));
        if (pq_infer_has(s, 3)) PQ_TRY(pq_infer_ints(s, 3, axes, PQ_MAX_RANK, &n_axes));
        if (n != 2 * n_axes) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "%d pads, expected %d", n, 2 * n_axes);
            goto out;
        }
        memset(a->begin, 0, sizeof a->begin);
        memset(a->step, 0, sizeof a->step);
        for (int i = 0; i < n_axes; i++) {
            PQ_TRY(pq_infer_axis(s, &axes[i], out.rank));
            a->begin[axes[i]] = pads[i];
            a->step[axes[i]] = pads[n_axes + i];
        }
        if (pq_infer_has(s, 2)) PQ_TRY(pq_infer_scalar(s, 2, &value));
        if (pq_infer_has(s, 2)) a->pad_value = (float)value;
    }
    for (int i = 0; i < out.rank; i++) {
        const int64_t lo = a->begin[i], hi = a->step[i];
        if (lo < -PQ_INFER_MAX_WINDOW || lo > PQ_INFER_MAX_WINDOW || hi < -PQ_INFER_MAX_WINDOW ||
            hi > PQ_INFER_MAX_WINDOW || out.dim[i] + lo + hi < 0) {
            st = pq_fail(s->ctx, PQ_E_FORMAT, "dimension %d of %lld padded by %lld and %lld", i,
                         (long long)out.dim[i], (long long)lo, (long long)hi);
            goto out;
        }
        out.dim[i] += lo + hi;
    }
    st = pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
out:
    return st;
}

static pq_status rule_focus(const pq_infer_scope *s)
{
    pq_status st = pq_infer_want_rank(s, 0, 4);
    if (st != PQ_OK) return st;
    const pq_shape *x = pq_infer_shape(s, 0);
    if (x->dim[2] % 2 || x->dim[3] % 2)
        return pq_fail(s->ctx, PQ_E_FORMAT, "input is %lld x %lld, expected even sizes",
                       (long long)x->dim[2], (long long)x->dim[3]);
    pq_shape out = PQ_SHAPE(x->dim[0], 4 * x->dim[1], x->dim[2] / 2, x->dim[3] / 2);
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &out);
}

static pq_status rule_shape(const pq_infer_scope *s)
{
    return pq_infer_set(s, 0, PQ_S64, &PQ_SHAPE(pq_infer_shape(s, 0)->rank));
}

static pq_status rule_constant_of_shape(const pq_infer_scope *s)
{
    pq_shape out = {0, {0}};
    pq_status st = pq_infer_ints(s, 0, out.dim, PQ_MAX_RANK, &out.rank);
    return st == PQ_OK ? pq_infer_set(s, 0, s->n->attr.to, &out) : st;
}

static pq_status rule_range(const pq_infer_scope *s)
{
    double v[3];
    for (int i = 0; i < 3; i++) {
        pq_status st = pq_infer_scalar(s, i, &v[i]);
        if (st != PQ_OK) return st;
    }
    const double count = ceil((v[1] - v[0]) / v[2]);
    if (v[2] == 0 || !(count < 0x1p32))
        return pq_fail(s->ctx, PQ_E_FORMAT, "range from %g to %g by %g", v[0], v[1], v[2]);
    return pq_infer_set(s, 0, pq_infer_in(s, 0)->dtype, &PQ_SHAPE(count > 0 ? (int64_t)count : 0));
}

pq_status pq_infer_move(const pq_infer_scope *s)
{
    switch (s->n->op) {
    case PQ_OP_CONCAT: return rule_concat(s);
    case PQ_OP_SPLIT: return rule_split(s);
    case PQ_OP_SLICE: return rule_slice(s);
    case PQ_OP_RESHAPE: return rule_reshape(s);
    case PQ_OP_FLATTEN: return rule_flatten(s);
    case PQ_OP_SQUEEZE: return rule_squeeze(s);
    case PQ_OP_UNSQUEEZE: return rule_unsqueeze(s);
    case PQ_OP_TRANSPOSE: return rule_transpose(s);
    case PQ_OP_EXPAND: return rule_expand(s);
    case PQ_OP_TILE: return rule_tile(s);
    case PQ_OP_PAD: return rule_pad(s);
    case PQ_OP_FOCUS: return rule_focus(s);
    case PQ_OP_SHAPE: return rule_shape(s);
    case PQ_OP_CONSTANT_OF_SHAPE: return rule_constant_of_shape(s);
    case PQ_OP_RANGE: return rule_range(s);
    default: return pq_infer_index(s);
    }
}
