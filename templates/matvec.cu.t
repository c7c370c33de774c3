% if norm == 1 then
% include "block_sum.cu.t"
% end
% if to == "gate" then
% include "silu.cu.t"
% end
% include "matvec_input.cu.t"
% include(quant == 1 and "matvec_quants.cu.t" or "matvec_plain.cu.t")
