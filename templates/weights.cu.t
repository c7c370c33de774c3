% -- Weights of type w as a GGUF file holds them, eight at a time. The environment holds w, t and, of w, block, block_bytes and lift.
% -- A unit is eight weights that one thread takes. Of a plain type: eight in a row. Of a quantised one: a group is 32 weights,
% -- and unit c of its four is weights 4c..4c+3 and 16+4c..19+4c, which is what one or two words of the block hold.
% local quantised = w:sub(1, 1) == "q"
% local of_256 = w:sub(-2) == "_k"
% local one, magic = 0x3c00, 0x6400                    -- fp16: 0x6400 | v is 1024 + v, exact
% if t == "bf16" then one, magic = 0x3f80, 0x4300 end  -- 128 + v
% local function pair(bits) return ("0x%04x%04xu"):format(bits, bits) end
% local function less(v) return pair((magic | 0x8000) + v) end   -- -(magic_value + v)
% local middle = 0x5400                                -- fp16: 0x5400 | v << 4 is 64 + v, exact
% local nibbles = w:sub(1, 3) == "q4_"
% local words_aligned = block_bytes % 4 == 0
% if quantised then
/* Where the first of a unit's two runs of four weights lies in the row; the second is 16 further on. */
DEVICE int unit_first(int unit) { return unit / 4 * 32 + unit % 4 * 4; }
DEVICE int unit_second(int unit) { return unit_first(unit) + 16; }

/* Four bytes of a block${words_aligned and "" or ", whose size is an odd number of halves; whole: they lie at a multiple of four"}. */
DEVICE unsigned word_at(const unsigned char *p, bool whole)
{
%   if not words_aligned then
    if (!whole)
        return (unsigned)((const unsigned short *)p)[0] | (unsigned)((const unsigned short *)p)[1] << 16;
%   end
    return *(const unsigned *)p;
}

%   if w ~= "q8_0" then
%     if lift > 0 and t == "fp16" then
/* Two numbers of four bits, or of six, or'ed into ${pair(middle)} four bits up: as a pair of fp16 they are 64 and so ${lift} more than what
 * they stand for. The sums that they go into are put right by the sum of the inputs. */
DEVICE unsigned numbers(unsigned v) { return v; }
%     elseif lift > 0 then
/* Two small whole numbers or'ed into ${pair(magic)}: as a pair of bf16 they are 128 and so ${lift} more than what they stand for, which costs nothing to make. The
 * sums that they go into are put right by the sum of the inputs. */
DEVICE unsigned numbers(unsigned v) { return v; }
%     else
/* Two small whole numbers or'ed into ${pair(magic)}: less what the type counts from, as a pair of ${t}. */
%       local centre = ({ q5_0 = 16 })[w] or 0
DEVICE unsigned numbers(unsigned v) { return fma2(v, ${pair(one)}, ${less(centre)}); }
%     end
%   elseif t == "bf16" then
/* Two signed bytes, each in the low half of 16 bits, as a pair of bf16: 128 and the low seven bits, less 128 or 256 by the sign. */
DEVICE unsigned numbers(unsigned v)
{
    return fma2(and_or(v, 0x00800080u, ${pair(magic)}), 0xbf80bf80u, and_or(v, 0x007f007fu, ${pair(magic)}));
}
%   else
/* Two signed bytes, each in the low half of 16 bits, as a pair of fp16. */
DEVICE unsigned numbers(unsigned v) { return fma2((v & 0x00ff00ffu) ^ ${pair(magic | 0x80)}, ${pair(one)}, ${less(128)}); }
%   end

%   if nibbles then
/* The lower four bits of bytes 0 and 2, and the upper four: numbers, where they are wanted with no shift more than need be. */
%     if t == "fp16" then
DEVICE unsigned lower(unsigned v) { return fma2(and_or(v, 0x000f000fu, ${pair(magic)}), ${pair(one)}, 0xe380e380u); } /* less 960 */
DEVICE unsigned upper(unsigned v) { return numbers(and_or(v, 0x00f000f0u, ${pair(middle)})); }
%     else
DEVICE unsigned lower(unsigned v) { return numbers(and_or(v, 0x000f000fu, ${pair(magic)})); }
DEVICE unsigned upper(unsigned v) { return lower(v >> 4); }
%     end
%   elseif w == "q6_k" then
/* v, its bits `by` places up, or down where `by` is negative. */
DEVICE unsigned moved(unsigned v, int by) { return by >= 0 ? v << by : v >> -by; }
/* Six bits of byte `byte` and the one two further on: four that begin at bit `nibble` of v, two at bit `bits` of high. */
DEVICE unsigned six(unsigned v, int nibble, unsigned high, int bits, int byte)
{
%     local up, into = 0, magic
%     if t == "fp16" then up, into = 4, middle end
    const unsigned top = and_or(moved(high, ${up + 4} - bits - 8 * byte), ${pair(0x30 << up)}, ${pair(into)});
    return numbers(and_or(moved(v, ${up} - nibble - 8 * byte), ${pair(0xf << up)}, top));
}
%   end

/* Unit c of group g of a block without its scale, exact${lift > 0 and ", and " .. lift .. " too much" or ""}. q[0]: weights 4c and 4c+2, q[1]: 4c+1 and 4c+3, q[2], q[3]: the same 16
 * further on. */
DEVICE void unit_quants(unsigned q[4], const unsigned char *b, int g, int c, bool whole)
{
%   if w == "q8_0" then
    unsigned lo = word_at(b + 2 + 4 * c, whole), hi = word_at(b + 18 + 4 * c, whole);
    q[0] = numbers(lo);
    q[1] = numbers(lo >> 8);
    q[2] = numbers(hi);
    q[3] = numbers(hi >> 8);
%   elseif w == "q6_k" then
    const int from = g / 4 * 64 + (g & 1) * 32 + 4 * c, high = 128 + g / 4 * 32 + 4 * c, nibble = (g & 2) * 2, bits = 2 * (g & 3);
    const unsigned lo = word_at(b + from, whole), hi = word_at(b + from + 16, whole);
    const unsigned lo2 = word_at(b + high, whole), hi2 = word_at(b + high + 16, whole);
    q[0] = six(lo, nibble, lo2, bits, 0);
    q[1] = six(lo, nibble, lo2, bits, 1);
    q[2] = six(hi, nibble, hi2, bits, 0);
    q[3] = six(hi, nibble, hi2, bits, 1);
%   elseif w == "q4_k" then
    const unsigned lo = word_at(b + 16 + g / 2 * 32 + 4 * c, whole), hi = word_at(b + 32 + g / 2 * 32 + 4 * c, whole);
    q[0] = g & 1 ? upper(lo) : lower(lo);
    q[1] = g & 1 ? upper(lo >> 8) : lower(lo >> 8);
    q[2] = g & 1 ? upper(hi) : lower(hi);
    q[3] = g & 1 ? upper(hi >> 8) : lower(hi >> 8);
%   elseif w == "q5_k" then
    const int nibble = (g & 1) * 4;
    unsigned lo = word_at(b + 48 + g / 2 * 32 + 4 * c, whole) >> nibble, hi = word_at(b + 64 + g / 2 * 32 + 4 * c, whole) >> nibble;
    unsigned lo1 = word_at(b + 16 + 4 * c, whole) >> g, hi1 = word_at(b + 32 + 4 * c, whole) >> g;
    q[0] = numbers(and_or(lo, 0x000f000fu, and_or(lo1 << 4, 0x00100010u, ${pair(magic)})));
    q[1] = numbers(and_or(lo >> 8, 0x000f000fu, and_or(lo1 >> 4, 0x00100010u, ${pair(magic)})));
    q[2] = numbers(and_or(hi, 0x000f000fu, and_or(hi1 << 4, 0x00100010u, ${pair(magic)})));
    q[3] = numbers(and_or(hi >> 8, 0x000f000fu, and_or(hi1 >> 4, 0x00100010u, ${pair(magic)})));
%   elseif w == "q5_0" or w == "q5_1" then
%     local at = w == "q5_1" and 4 or 2
    unsigned v = word_at(b + ${at + 4} + 4 * c, whole), high = word_at(b + ${at}, whole) >> 4 * c;
    unsigned lo1 = high & 15, hi1 = high >> 16 & 15; /* one bit a weight, to bits 4 and 20 by a product */
    q[0] = numbers(and_or(v, 0x000f000fu, and_or(lo1 * 0x40010u, 0x00100010u, ${pair(magic)})));
    q[1] = numbers(and_or(v >> 8, 0x000f000fu, and_or(lo1 * 0x20008u, 0x00100010u, ${pair(magic)})));
    q[2] = numbers(and_or(v >> 4, 0x000f000fu, and_or(hi1 * 0x40010u, 0x00100010u, ${pair(magic)})));
    q[3] = numbers(and_or(v >> 12, 0x000f000fu, and_or(hi1 * 0x20008u, 0x00100010u, ${pair(magic)})));
%   else
    const unsigned v = word_at(b + ${w == "q4_1" and 4 or 2} + 4 * c, whole);
    q[0] = lower(v);
    q[1] = lower(v >> 8);
    q[2] = upper(v);
    q[3] = upper(v >> 8);
%   end
}

%   if w == "q6_k" then
/* The scales of group g's first and last 16 weights. */
DEVICE struct f2 group_scale(const unsigned char *b, int g)
{
    const float d = fp16_value(*(const unsigned short *)(b + 208));
    const signed char *scale = (const signed char *)b + 192 + 2 * g;
    struct f2 r = {d * (float)scale[0], d * (float)scale[1]};
    return r;
}
%   else
/* A weight of group g is x times its number, plus y. */
DEVICE struct f2 group_scale(const unsigned char *b, int g)
{
%     if of_256 then
    const float d = fp16_value(*(const unsigned short *)b), least = fp16_value(*(const unsigned short *)(b + 2));
    const unsigned char *s = b + 4 + (g & 3); /* six bits of each; the last groups' top two lie above the first ones' */
    unsigned scale = s[0], offset = s[4], last = s[8];
    if (g < 4) {
        scale &= 63;
        offset &= 63;
    } else {
        scale = (last & 15) | (scale >> 6) << 4;
        offset = last >> 4 | (offset >> 6) << 4;
    }
    struct f2 r = {d * (float)scale, -(least * (float)offset)};
%     elseif w == "q4_1" or w == "q5_1" then
    struct f2 r = {fp16_value(*(const unsigned short *)b), fp16_value(*(const unsigned short *)(b + 2))};
%     else
    struct f2 r = {fp16_value(*(const unsigned short *)b), 0.0f};
%     end
    return r;
}
%   end

/* The values of a unit: v[0..3] of its first run, v[4..7] of its second. */
DEVICE void unit_values(float v[8], const unsigned char *row, int unit)
{
    const int group = unit / 4;
    const unsigned char *b = row + (i64)(group ${of_256 and "/ 8 " or ""}* ${block_bytes});
    unsigned q[4];
    unit_quants(q, b, ${of_256 and "group & 7" or "0"}, unit % 4, false);
    struct f2 s = group_scale(b, ${of_256 and "group & 7" or "0"});
    UNROLL
    for (int i = 0; i < 4; i++) {
        struct f2 x = unpack2(q[i]);
%   if lift > 0 then
        x.x -= ${lift}.0f;
        x.y -= ${lift}.0f;
%   end
%   if w == "q6_k" then
        v[i / 2 * 4 + i % 2] = (i < 2 ? s.x : s.y) * x.x;
        v[i / 2 * 4 + i % 2 + 2] = (i < 2 ? s.x : s.y) * x.y;
%   else
        v[i / 2 * 4 + i % 2] = s.x * x.x + s.y;
        v[i / 2 * 4 + i % 2 + 2] = s.x * x.y + s.y;
%   end
    }
}
% else
DEVICE int unit_first(int unit) { return unit * 8; }
DEVICE int unit_second(int unit) { return unit * 8 + 4; }

/* The values of a unit. */
DEVICE void unit_values(float v[8], const unsigned char *row, int unit)
{
%   if w == "f32" then
    UNROLL
    for (int i = 0; i < 2; i++) {
        struct u4 x = ld16_stream(row + (i64)unit * 32 + i * 16);
        v[4 * i] = bits_float(x.x);
        v[4 * i + 1] = bits_float(x.y);
        v[4 * i + 2] = bits_float(x.z);
        v[4 * i + 3] = bits_float(x.w);
    }
%   else
    struct u4 x = ld16_stream(row + (i64)unit * 16);
    const unsigned pair[4] = {x.x, x.y, x.z, x.w};
    UNROLL
    for (int i = 0; i < 4; i++) {
%     if w == "bf16" then
        v[2 * i] = bits_float(pair[i] << 16);
        v[2 * i + 1] = bits_float(pair[i] & 0xffff0000u);
%     else
        v[2 * i] = fp16_value((unsigned short)pair[i]);
        v[2 * i + 1] = fp16_value((unsigned short)(pair[i] >> 16));
%     end
    }
%   end
}
% end
