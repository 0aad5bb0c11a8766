/* SHA-256 with the x86 SHA extensions: four rounds a step. The instructions keep the state as the
 * two vectors a b e f and c d g h, highest element first.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, SHA256RNDS2. */
#include "base/sha256.h"

#include <immintrin.h>

static __m128i load(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Words 4g .. 4g+3 of the message schedule from the 16 before them, in m as a ring of four. */
static __m128i schedule(const __m128i m[4], int g)
{
    const __m128i near = m[(g + 3) & 3];
    __m128i w = _mm_sha256msg1_epu32(m[g & 3], m[(g + 1) & 3]);
    w = _mm_add_epi32(w, _mm_alignr_epi8(near, m[(g + 2) & 3], 4));
    return _mm_sha256msg2_epu32(w, near);
}

void pq_sha256_blocks_ni(uint32_t h[8], const uint8_t *p, size_t n_blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i badc = _mm_shuffle_epi32(load(h), 0xb1),
                  hgfe = _mm_shuffle_epi32(load(h + 4), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
    for (; n_blocks; n_blocks--, p += 64) {
        const __m128i abef0 = abef, cdgh0 = cdgh;
        __m128i m[4];
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++) {
            m[g & 3] =
                g < 4 ? _mm_shuffle_epi8(load(p + (ptrdiff_t)16 * g), big_endian) : schedule(m, g);
            const __m128i w = _mm_add_epi32(m[g & 3], load(pq_sha256_k + (ptrdiff_t)4 * g));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef0);
        cdgh = _mm_add_epi32(cdgh, cdgh0);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}
