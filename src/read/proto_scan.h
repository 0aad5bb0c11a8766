/** @file proto_scan.h  A look over protobuf bytes before they are unpacked. */
#ifndef PQ_READ_PROTO_SCAN_H
#define PQ_READ_PROTO_SCAN_H

#include <protobuf-c/protobuf-c.h>

#include "base/ctx.h"

/**
 * Check the wire format of a message and of the messages inside it: tags, varints and lengths stay
 * within the bytes, no groups, at most max_depth levels, no message field that occurs twice without
 * being repeated (protobuf would merge the two). What passes can be unpacked without deep
 * recursion. Errors: FORMAT (what, at which byte).
 */
PQ_MUST_USE pq_status pq_proto_scan(pq_ctx *ctx, const ProtobufCMessageDescriptor *type,
                                    const uint8_t *data, size_t n, int max_depth);

#endif
