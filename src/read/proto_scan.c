/* Check of protobuf's wire format against a message descriptor, without allocating.
 * Source: protobuf.dev/programming-guides/encoding. */
#include "read/proto_scan.h"

#include <string.h>

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, MAX_FIELDS = 64 };

typedef struct cursor {
    pq_ctx *ctx;
    const uint8_t *begin, *at, *end;
} cursor;

static pq_status bad(const cursor *c, const char *what)
{
    return pq_fail(c->ctx, PQ_E_FORMAT, "not a protobuf message: %s at byte %zu", what,
                   (size_t)(c->at - c->begin));
}

static pq_status varint(cursor *c, uint64_t *out)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (c->at == c->end) return bad(c, "number cut off");
        const uint8_t byte = *c->at++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = v;
            return PQ_OK;
        }
    }
    return bad(c, "number of more than 64 bits");
}

static pq_status skip(cursor *c, uint64_t n)
{
    if (n > (uint64_t)(c->end - c->at)) return bad(c, "length beyond the end");
    c->at += n;
    return PQ_OK;
}

static pq_status scan(cursor *c, const ProtobufCMessageDescriptor *type, int depth);

/* A length-delimited field; *seen has one bit for each field of the message's descriptor. */
static pq_status bytes_field(cursor *c, const ProtobufCFieldDescriptor *f, unsigned index,
                             uint64_t *seen, int depth)
{
    uint64_t n;
    pq_status st = varint(c, &n);
    if (st != PQ_OK) return st;
    if (!f || f->type != PROTOBUF_C_TYPE_MESSAGE) return skip(c, n);
    if (n > (uint64_t)(c->end - c->at)) return bad(c, "length beyond the end");
    if (f->label != PROTOBUF_C_LABEL_REPEATED && index < MAX_FIELDS) {
        if (*seen >> index & 1) return bad(c, "a single field that occurs twice");
        *seen |= (uint64_t)1 << index;
    }
    if (depth <= 1) return bad(c, "messages nested too deeply");
    cursor inner = {c->ctx, c->begin, c->at, c->at + n};
    if ((st = scan(&inner, f->descriptor, depth - 1)) != PQ_OK) return st;
    c->at += n;
    return PQ_OK;
}

static pq_status scan(cursor *c, const ProtobufCMessageDescriptor *type, int depth)
{
    uint64_t seen = 0;
    while (c->at < c->end) {
        uint64_t tag, skipped;
        pq_status st = varint(c, &tag);
        if (st != PQ_OK) return st;
        if (tag >> 3 == 0 || tag >> 3 > 536870911) return bad(c, "field number out of range");
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        switch (tag & 7) {
        case WIRE_VARINT: st = varint(c, &skipped); break;
        case WIRE_64: st = skip(c, 8); break;
        case WIRE_32: st = skip(c, 4); break;
        case WIRE_BYTES:
            st = bytes_field(c, f, f ? (unsigned)(f - type->fields) : 0, &seen, depth);
            break;
        default: return bad(c, "unknown wire type");
        }
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

pq_status pq_proto_scan(pq_ctx *ctx, const ProtobufCMessageDescriptor *type, const uint8_t *data,
                        size_t n, int max_depth)
{
    cursor c = {ctx, data, data, data + n};
    return scan(&c, type, max_depth);
}
