/* y = W x for one token; each block takes ${a_block} outputs at a time, until none is left. Any grid.
% if to == "half" then
 *   y [rows] ${t}, written: W x + bias
% elseif to == "add" then
 *   y [rows] fp32: W x is added
% elseif to == "gate" then
 *   y [rows] ${t}, written: silu(gate x) * (up x)
% else
 *   y [rows] fp32, written
% end
 *   weights [${to == "gate" and "2 * rows: gate, then up" or "rows"}][${n}] of ${w}, 16-byte aligned; read in whole pieces of 16 bytes, the last one too
% if norm == 1 then
 *   x [${n}] fp32, normed here: x / sqrt(mean(x^2) + eps) * norm_weight [${n}] fp32
% else
 *   x [${n}] ${t}       norm_weight, eps: not used
% end
 *   bias [rows] fp32 or NULL, for to = half only
 *
 * With overlapping launches the first weights are asked for before the kernels ahead have ended: none of these may write weights
 * or norm_weight. */
